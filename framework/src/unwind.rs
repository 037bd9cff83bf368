//! Where a panic of user code ends, and with it whatever the panic carries.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs user code. `None` if it panicked; nothing of the panic leaves here.
///
/// A payload is the user's as well, and so is its destructor: if that one panics, what it panics with is
/// never dropped, since that would panic again for as long as the user likes.
pub(crate) fn caught<T>(user: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(user)) {
        Ok(value) => Some(value),
        Err(payload) => {
            if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                leak(another);
            }
            None
        }
    }
}

#[expect(clippy::mem_forget, reason = "its destructor is what must not run")]
fn leak(payload: Box<dyn std::any::Any + Send>) {
    std::mem::forget(payload);
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use super::*;

    /// Panics when it is dropped, with one more of its kind.
    struct Again;

    impl Drop for Again {
        fn drop(&mut self) {
            panic_any(Self);
        }
    }

    #[test]
    fn a_payload_whose_destructor_panics_for_ever_ends_here() {
        assert_eq!(caught(|| panic_any(Again)), None::<()>);
        assert_eq!(caught(|| drop(Again)), None);
    }

    #[test]
    fn user_code_that_does_not_panic_gives_what_it_gives() {
        assert_eq!(caught(|| 42), Some(42));
    }
}
