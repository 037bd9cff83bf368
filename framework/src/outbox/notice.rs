//! Telling a member what it has missed: the user's text is made and framed without a lock, and may panic.

use crate::codec::Framing;
use crate::outbox::Chunk;
use crate::outbox::lane::Due;
use crate::unwind::caught;

impl Due {
    /// The message to the member, if its group is still there, tells anything, and can be framed. The
    /// text is the user's, and a codec may be as well: if either panics there is no message.
    pub(super) fn message(&self, framing: &Framing) -> Option<Chunk> {
        let group = self.group.upgrade()?;
        let text = group.rules().notice.as_ref()?;
        caught(|| Chunk::framed(framing, &text(self.missed)).ok())?
    }
}
