//! Pure bytes to frames and back: no socket, no clock, no allocation that a peer can name.
