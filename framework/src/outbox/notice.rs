//! Telling a member what it has missed: the user's text is made without a lock, and may panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::codec::Framing;
use crate::outbox::Chunk;
use crate::outbox::lane::Due;

impl Due {
    /// The message to the member, if its group is still there, tells anything, and can be framed.
    pub(super) fn message(&self, framing: &Framing) -> Option<Chunk> {
        let group = self.group.upgrade()?;
        let text = group.rules().notice.as_ref()?;
        let text = harmless(|| text(self.missed))?;
        let mut framed = Vec::with_capacity(text.len() + 8);
        framing.encode(&text, &mut framed).ok()?;
        Some(Chunk::Framed(framed))
    }
}

/// Runs what is the user's. A panic ends here, and so does one in the destructor of its payload.
pub(super) fn harmless<T>(user: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(user))
        .map_err(|payload| drop(catch_unwind(AssertUnwindSafe(|| drop(payload)))))
        .ok()
}
