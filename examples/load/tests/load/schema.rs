//! A small judge of JSON against a schema: types, required and allowed properties, items, least values.
use serde_json::Value;

/// What is wrong with `value`, if anything.
pub(crate) fn check(value: &Value, schema: &Value, root: &Value, place: &str) -> Vec<String> {
    if let Some(name) = schema["$ref"].as_str() {
        let target = root.pointer(name.trim_start_matches('#')).expect("a definition");
        return check(value, target, root, place);
    }
    let mut wrong = Vec::new();
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(some) => some.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    };
    if !types.is_empty() && !types.iter().any(|kind| is(value, kind)) {
        wrong.push(format!("{place} is no {types:?}: {value}"));
        return wrong;
    }
    if let (Some(least), Some(number)) = (schema["minimum"].as_f64(), value.as_f64())
        && number < least
    {
        wrong.push(format!("{place} is less than {least}"));
    }
    if let (Some(allowed), false) = (schema["enum"].as_array(), value.is_null())
        && !allowed.contains(value)
    {
        wrong.push(format!("{place} is none of {allowed:?}"));
    }
    if let Some(object) = value.as_object() {
        let known = schema["properties"].as_object();
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !object.contains_key(name) {
                wrong.push(format!("{place}.{name} is missing"));
            }
        }
        for (name, part) in object {
            match known.and_then(|known| known.get(name)) {
                Some(schema) => wrong.extend(check(part, schema, root, &format!("{place}.{name}"))),
                None if schema["additionalProperties"] == Value::Bool(false) => {
                    wrong.push(format!("{place}.{name} is not in the schema"));
                }
                None => {}
            }
        }
    }
    if let (Some(items), false) = (value.as_array(), schema["items"].is_null()) {
        for (n, item) in items.iter().enumerate() {
            wrong.extend(check(item, &schema["items"], root, &format!("{place}[{n}]")));
        }
    }
    wrong
}

fn is(value: &Value, kind: &str) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}

#[test]
fn the_judge_itself_finds_what_is_wrong() {
    let schema: Value = serde_json::from_str(
        r#"{"type":"object","required":["a"],"additionalProperties":false,"properties":{"a":{"type":"integer","minimum":1}}}"#,
    )
    .expect("JSON");
    let wrong =
        |text: &str| check(&serde_json::from_str(text).expect("JSON"), &schema, &schema, "").len();
    assert_eq!(wrong(r#"{"a":1}"#), 0);
    for bad in [r#"{"a":0}"#, r#"{"a":"x"}"#, "{}", r#"{"a":1,"b":2}"#, "[]"] {
        assert_eq!(wrong(bad), 1, "{bad}");
    }
}
