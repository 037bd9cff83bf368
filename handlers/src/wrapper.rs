//! What all wrappers have in common: they pass on the callbacks that they do not care about.

/// For the body of an `impl Handler`: every callback except `handle`, passed on to `self.inner`.
///
/// What comes back goes through `self.keep(next)`, so that a handler which takes over by
/// `Next::Switch` is wrapped as well. A callback that the contract gains belongs here, and nowhere else.
macro_rules! pass_on_all_but_handle {
    () => {
        fn setup(&mut self, cx: &mut Context<'_>) -> io::Result<Next> {
            let next = self.inner.setup(cx)?;
            Ok(self.keep(next))
        }

        fn idle(&mut self, cx: &mut Context<'_>) -> io::Result<Next> {
            let next = self.inner.idle(cx)?;
            Ok(self.keep(next))
        }

        fn rejected(&mut self, why: &FrameError, cx: &mut Context<'_>) -> io::Result<Next> {
            let next = self.inner.rejected(why, cx)?;
            Ok(self.keep(next))
        }

        fn half_closed(&mut self, cx: &mut Context<'_>) -> io::Result<Next> {
            let next = self.inner.half_closed(cx)?;
            Ok(self.keep(next))
        }

        fn draining(&mut self, cx: &mut Context<'_>) -> io::Result<Next> {
            let next = self.inner.draining(cx)?;
            Ok(self.keep(next))
        }

        fn finish(&mut self, reason: &CloseReason) {
            self.inner.finish(reason);
        }
    };
}
