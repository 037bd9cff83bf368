//! What is promised: under each concurrency, on each transport; what is not; and the tests that prove it.
//!
//! Each promise holds inline, in threads and in a pool, over TCP, UDP and Unix sockets of both kinds, as far as it
//! speaks of something that the transport has. Where it does not, this page says so. The tables name the tests:
//! the file, the claim, and the fields in which it is run; `cargo test` runs all of them. A test of this page's own
//! keeps it true: a claim that is renamed, or proven in other fields, must be renamed here.
//!
//! # 1. One at a time, in order
//!
//! The callbacks of one connection or session never overlap, whichever threads run them, and messages come in the
//! order of the bytes; datagrams in the order in which they were received. `setup` runs first and once, `finish` last
//! and exactly once, if `setup` returned `Ok`.
//!
//! Not promised: the same thread for two callbacks. An order between two peers. That `finish` runs after a `setup`
//! that failed, or for a handler that never returns. A [`DatagramHandler`] has no peers: its calls overlap, in any order.
//!
//! | in | claim | modes | over |
//! |---|---|---|---|
//! | `tests/promises.rs` | `callbacks_of_one_peer_never_overlap_and_keep_the_order` | inline threads pool | tcp unix udp unixgram |
//! | `tests/promises.rs` | `setup_runs_once_and_finish_exactly_once` | inline threads pool | tcp unix udp unixgram |
//! | `tests/contract.rs` | `setup_runs_first_and_may_speak_first` | inline threads pool | tcp unix udp unixgram |
//! | `tests/contract.rs` | `messages_of_a_peer_are_handled_in_order` | inline threads pool | tcp unix udp unixgram |
//! | `tests/datagrams.rs` | `the_order_of_a_peer_is_kept_behind_a_handler_that_blocks` | threads pool | udp unixgram |
//! | `tests/PORTED.md` | A setup that fails: no message, no finish, one report | inline threads pool | tcp unix udp unixgram |
//! | `tests/PORTED.md` | The order of each peer is kept | inline threads pool | udp unixgram |
//!
//! # 2. What fails fails alone
//!
//! An error or a panic ends the connection it happened in, whether it comes from a callback, a factory, a filter, a
//! codec or a destructor. The peer sees the end, what was sent before is flushed, the reason is told once, and the
//! place and the descriptor come back. A panic of an observer or a tick ends nothing at all.
//!
//! Not promised: anything under `panic = "abort"`, after a stack overflow, or when memory runs out: these end the
//! process. What a panic leaves behind in a lock of yours is yours to mend.
//!
//! | in | claim | modes | over |
//! |---|---|---|---|
//! | `tests/promises.rs` | `a_failing_handler_ends_its_own_peer_alone` | inline threads pool | tcp unix udp unixgram |
//! | `tests/isolation.rs` | `a_panic_in_any_callback_ends_its_own_peer_alone` | inline threads pool | tcp unix udp unixgram |
//! | `tests/isolation.rs` | `an_error_in_any_callback_ends_its_own_peer_alone` | inline threads pool | tcp unix udp unixgram |
//! | `tests/isolation.rs` | `a_panic_in_finish_is_contained` | inline threads pool | tcp unix udp unixgram |
//! | `tests/isolation.rs` | `a_panic_in_a_destructor_is_contained` | inline threads pool | tcp unix udp unixgram |
//! | `tests/isolation.rs` | `a_panic_in_the_successor_of_a_switch_is_contained` | inline threads pool | tcp unix udp unixgram |
//! | `tests/isolation.rs` | `replies_collected_before_a_panic_are_flushed_before_the_end` | inline threads pool | tcp unix |
//! | `tests/listeners.rs` | `a_filter_that_panics_turns_away_and_harms_nobody` | inline threads pool | tcp unix udp unixgram |
//! | `tests/codecs.rs` | `a_panic_wherever_a_codec_decodes_costs_one_connection` | inline threads pool | tcp unix |
//! | `tests/observer.rs` | `ten_thousand_panics_of_observers_change_nothing` | inline threads pool | tcp unix udp unixgram |
//! | `tests/ticks.rs` | `a_tick_that_panics_goes_on_and_is_told` | inline threads pool | tcp unix udp unixgram |
//! | `tests/PORTED.md` | A panic of factory, filter, observer or tick ends nobody else | inline threads pool | tcp unix udp unixgram |
//! | `tests/PORTED.md` | Ten thousand panics grow nothing, and hurt nobody else | inline threads pool | tcp unix udp unixgram |
//!
//! # 3. What was sent before the close arrives
//!
//! Everything that was sent before [`Next::Close`] is flushed before the connection is closed: also after the peer has
//! finished sending, also if input of it is unread or it goes on sending. The socket is closed by finishing our side
//! and reading on for a bounded time, so that no reset overtakes the reply.
//!
//! Not promised: anything to a peer that takes nothing for the write timeout, that resets, or that is still reading at a
//! drain's deadline. After [`Next::Abort`] what was not sent is lost: that is what it is for. Datagrams leave the
//! server; the network may lose them. A peer that sends more than 64 KiB after our end, or goes on for seconds, is cut off.
//!
//! | in | claim | modes | over |
//! |---|---|---|---|
//! | `tests/promises.rs` | `everything_sent_before_close_arrives` | inline threads pool | tcp unix udp unixgram |
//! | `tests/promises.rs` | `everything_sent_before_close_arrives_after_the_peers_fin` | inline threads pool | tcp unix |
//! | `tests/promises.rs` | `everything_sent_before_close_arrives_though_input_is_unread` | inline threads pool | tcp unix |
//! | `tests/promises.rs` | `everything_sent_before_close_arrives_though_the_peer_goes_on_sending` | inline threads pool | tcp unix |
//! | `tests/next.rs` | `close_flushes_then_ends` | inline threads pool | tcp unix udp unixgram |
//! | `tests/writes.rs` | `a_handlers_flood_is_whole_once_the_peer_reads` | inline threads pool | tcp unix |
//! | `tests/writes.rs` | `what_waits_at_a_drain_is_flushed_to_a_slow_reader` | inline threads pool | tcp unix |
//! | `tests/PORTED.md` | A reply is whole although input is left unread | inline threads pool | tcp unix |
//! | `tests/PORTED.md` | A peer that has finished sending gets the whole reply | inline threads pool | tcp unix |
//!
//! # 4. Nothing waits for ever, nothing grows for ever
//!
//! Every wait for a peer has a deadline: for its next byte, for the rest of a message, for room to write, for its
//! end, for a drain. Every queue and every buffer has a bound. The defaults of both stand [at `Server`](crate::Server#defaults), and are on.
//!
//! Not promised: that a *handler* returns. No thread can be ended from outside; one that never returns is named in
//! the drain's report, and costs a worker until the process ends. A timeout that is set to `None` is your wish to wait. A
//! handler without limits of its own may collect whatever it likes.
//!
//! | in | claim | modes | over |
//! |---|---|---|---|
//! | `tests/deadlines.rs` | `a_silent_peer_is_closed_at_the_idle_timeout` | inline threads pool | tcp unix udp unixgram |
//! | `tests/deadlines.rs` | `a_byte_now_and_then_does_not_outlive_the_message_timeout` | inline threads pool | tcp |
//! | `tests/deadlines.rs` | `a_peer_that_does_not_read_is_reset_at_the_write_timeout` | inline threads pool | tcp unix |
//! | `tests/deadlines.rs` | `lingering_ends_although_the_peer_stays` | inline threads pool | tcp unix |
//! | `tests/deadlines.rs` | `hundreds_of_deadlines_are_all_met` | inline threads pool | tcp unix udp unixgram |
//! | `tests/conversation.rs` | `a_silent_peer_is_left_at_the_idle_timeout` | inline threads pool | tcp unix |
//! | `tests/conversation.rs` | `a_peer_that_takes_nothing_is_left_at_the_write_timeout` | inline threads pool | tcp unix |
//! | `tests/writes.rs` | `a_remote_never_blocks_and_overflow_disconnects_by_default` | inline threads pool | tcp unix |
//! | `tests/writes.rs` | `overflow_may_drop_the_oldest` | inline threads pool | tcp unix |
//! | `tests/datagrams.rs` | `a_thousand_peers_hold_no_more_sessions_than_allowed` | inline threads pool | udp unixgram |
//! | `tests/PORTED.md` | What waits for a peer's handler is bounded, the rest counted | inline threads pool | udp unixgram |
//! | `tests/framing.rs` | `a_large_message_announced_and_never_sent_takes_no_memory` | inline threads pool | tcp unix |
//! | `tests/next.rs` | `handlers_that_give_way_to_one_another_for_ever_are_ended` | inline threads pool | tcp unix udp unixgram |
//! | `tests/lifecycle.rs` | `a_stuck_handler_is_named_and_the_drain_returns` | threads pool | tcp unix udp unixgram |
//! | `tests/limits.rs` | `limits_changed_at_random_under_load_are_never_exceeded` | inline threads pool | tcp |
//! | `tests/resources.rs` | `a_server_leaves_nothing_behind` | inline threads pool | tcp unix udp unixgram |
//! | `tests/PORTED.md` | A hundred thousand short connections do not grow the process | inline threads pool | tcp |
//!
//! # 5. A bad peer costs itself
//!
//! A peer that is slow, silent, deaf, rude or greedy costs its own connection, and nobody else's time, replies or
//! place in the queue beyond that.
//!
//! Not promised under [`Inline`](crate::Concurrency::Inline): there a *handler* that blocks blocks the server, since everything is done on one thread;
//! and so does a reply that waits for a peer who does not read. A [`StreamHandler`] that waits for its peer within a
//! call holds its worker; if all workers are held, the others wait: give such a server threads enough. Connections that
//! do nothing wrong but stay take places among `max_connections`, until the idle timeout.
//!
//! Not promised over Unix datagrams: the system charges what peers leave unread to the *server's* send buffer. Some that
//! never read, or one that has connected its socket and so may have any number waiting, can use it up; replies to everybody
//! wait then, up to the write timeout, and are counted if they are lost ([`Stats::replies_failed`]).
//!
//! | in | claim | modes | over |
//! |---|---|---|---|
//! | `tests/isolation.rs` | `a_peer_that_resets_costs_itself_alone` | inline threads pool | tcp |
//! | `tests/isolation.rs` | `a_peer_that_leaves_its_reply_unread_costs_itself_alone` | inline threads pool | unix |
//! | `tests/writes.rs` | `a_peer_that_never_reads_costs_itself_alone` | threads pool | tcp |
//! | `tests/writes.rs` | `a_peer_that_never_reads_a_remote_costs_itself_alone` | inline threads pool | tcp unix |
//! | `tests/writes.rs` | `a_peer_that_does_not_read_is_not_read_either` | inline threads pool | tcp unix |
//! | `tests/concurrency.rs` | `a_hog_that_pipelines_without_pause_leaves_others_their_turn` | inline threads pool | tcp unix |
//! | `tests/conversation.rs` | `many_blocked_conversations_do_not_hinder_others` | threads pool | tcp unix |
//! | `tests/unix.rs` | `a_peer_that_does_not_read_its_datagrams_delays_nobody` | inline threads pool | unixgram |
//! | `tests/unix.rs` | `a_peer_that_asks_and_never_reads_takes_no_room_from_others` | inline threads pool | unixgram |
//! | `tests/framing.rs` | `a_gibibyte_announced_and_never_sent_is_refused_at_once` | inline threads pool | tcp unix |
//! | `tests/PORTED.md` | A peer that has gone ends nothing | inline threads pool | udp unixgram |
//! | `tests/regressions.rs` | `newcomers_are_served_beside_a_flood_after_a_handler_has_blocked` | – | – |
//!
//! # 6. A datagram is a message, whole or flagged
//!
//! An empty datagram is a message. One of 65,507 bytes, the most that IPv4 carries, arrives whole and can be sent. One
//! that is longer than `max_datagram` comes to [`Handler::rejected`], or is flagged ([`Datagram::is_truncated`]), and is
//! counted: its beginning is never passed off as a message.
//!
//! Not promised: that a datagram arrives at all. Those that the system drops for want of room are counted
//! ([`Stats::datagrams_dropped_by_kernel`]), as far as it says so. Unix datagrams may be longer; the same limit holds.
//!
//! | in | claim | modes | over |
//! |---|---|---|---|
//! | `tests/promises.rs` | `an_empty_message_is_a_message` | inline threads pool | tcp unix udp unixgram |
//! | `tests/promises.rs` | `the_longest_datagram_arrives_whole_and_goes_out_whole` | inline threads pool | udp unixgram |
//! | `tests/contract.rs` | `rejected_hears_of_a_truncated_datagram_and_the_session_goes_on` | inline threads pool | udp unixgram |
//! | `tests/PORTED.md` | A reply that cannot be sent ends its session alone | inline threads pool | udp unixgram |
//! | `tests/PORTED.md` | A datagram of a byte too much is told and counted | inline threads pool | udp unixgram |
//! | `tests/PORTED.md` | An empty datagram is a message | inline threads pool | udp unixgram |
//!
//! # 7. A drain resets nobody
//!
//! No client whose `connect` had succeeded is reset by a drain: whoever is queued is let in and served, what has arrived is
//! answered, everybody is told, and then the sockets are closed. The same is true of [`ServerHandle::suspend`],
//! except for a client so far away that the last packet of its handshake takes longer than 0.2 s.
//!
//! Not promised beyond the connection limit and the deadline: whoever finds no room in time, or has not left by the
//! deadline, is ended. A sender of datagrams hears nothing when the server goes; what had arrived is handled.
//!
//! | in | claim | modes | over |
//! |---|---|---|---|
//! | `tests/drain.rs` | `nobody_is_reset_by_a_drain_under_load` | inline threads pool | tcp unix |
//! | `tests/drain.rs` | `clients_that_wait_in_the_queue_are_served` | inline threads pool | tcp unix |
//! | `tests/drain.rs` | `requests_sent_before_the_drain_are_all_answered` | inline threads pool | tcp unix |
//! | `tests/drain.rs` | `a_drain_under_datagram_load_answers_all_it_has_taken` | inline threads pool | udp unixgram |
//! | `tests/PORTED.md` | A drain answers what had arrived | inline threads pool | udp unixgram |
//! | `tests/lifecycle.rs` | `everybody_is_told_at_once` | inline threads pool | tcp unix udp unixgram |
//! | `tests/suspend.rs` | `ten_cycles_under_load_reset_nobody` | inline threads pool | tcp |
//! | `tests/suspend.rs` | `whoever_was_queued_is_served` | inline threads pool | tcp |
//! | `tests/PORTED.md` | A request that crosses the close is served whole or not at all | inline threads pool | tcp unix |
//! | `tests/PORTED.md` | Who is accepted at the instant of the drain is counted and served | inline threads pool | tcp unix |
//!
//! # 8. Parking loses nothing
//!
//! What has been read already is handled before a connection waits for more: wherever the network has cut the stream,
//! whatever a pause, a budget or a slow reader has left over.
//!
//! Not promised: what arrives after the connection has ended, and what a handler that switches leaves half-read in
//! buffers of its own.
//!
//! | in | claim | modes | over |
//! |---|---|---|---|
//! | `tests/promises.rs` | `parking_loses_no_byte_wherever_the_stream_is_split` | inline threads pool | tcp unix |
//! | `tests/promises.rs` | `more_messages_than_a_turn_handles_are_all_handled` | inline threads pool | tcp unix udp unixgram |
//! | `tests/promises.rs` | `messages_behind_a_pause_are_handled_without_further_input` | inline threads pool | tcp unix |
//! | `tests/promises.rs` | `messages_before_fin_are_all_handled` | inline threads pool | tcp unix |
//! | `tests/next.rs` | `switch_takes_the_unread_bytes_along` | inline threads pool | tcp unix |
//! | `tests/conversation.rs` | `bytes_left_unread_come_first_in_the_next_call` | inline threads pool | tcp unix |
//! | `tests/PORTED.md` | Reads and returns mix, and no byte is lost between | inline threads pool | tcp unix |
//!
//! # 9. Nobody is trapped behind a handler that blocks
//!
//! What was fetched for other peers (events, the datagrams of a batch) is handled while a handler blocks: another
//! worker takes over, at once if the handler says so by [`Context::block`], else some milliseconds later.
//!
//! Not promised under [`Inline`](crate::Concurrency::Inline), and not when all workers of a pool are blocked: messages wait then, bounded, while accepting,
//! limits, timers and a drain go on. Nor for datagrams under [`Threads`](crate::Concurrency::Threads) while all
//! connections that may be are there: one thread is left for all of them then, and a handler of a datagram that blocks
//! holds up the others' datagrams.
//!
//! | in | claim | modes | over |
//! |---|---|---|---|
//! | `tests/concurrency.rs` | `batch_mates_of_a_handler_that_blocks_are_answered_at_once` | threads pool | tcp unix udp unixgram |
//! | `tests/concurrency.rs` | `batch_mates_of_a_handler_that_says_it_blocks_are_answered_at_once` | threads pool | tcp unix udp unixgram |
//! | `tests/concurrency.rs` | `batch_mates_of_a_handler_that_computes_are_answered` | threads pool | tcp unix udp unixgram |
//! | `tests/concurrency.rs` | `a_raw_handler_that_blocks_does_not_hinder_others` | threads pool | udp unixgram |
//! | `tests/concurrency.rs` | `with_all_workers_blocked_the_rest_still_works` | pool | tcp unix udp unixgram |
//! | `tests/concurrency.rs` | `with_all_workers_blocked_a_drain_is_told` | pool | tcp unix udp unixgram |
//! | `tests/concurrency.rs` | `with_all_workers_blocked_connections_are_accepted` | pool | tcp unix |
//! | `tests/listeners.rs` | `a_filter_that_takes_its_time_delays_nobody` | threads pool | tcp unix |
//! | `tests/ticks.rs` | `a_tick_that_blocks_delays_nobody` | threads pool | tcp unix udp unixgram |
//! | `tests/regressions.rs` | `replies_of_a_batch_leave_before_a_handler_that_blocks` | – | – |
//!
//! # 10. Whoever sends to a group waits for nobody
//!
//! A message to a [`Group`] waits for none of its members. Over connections each member has every message once and in
//! order, or is disconnected, or is told exactly how many it has missed.
//!
//! Not promised: one order of the messages of two senders, the same for all members. Being told over datagrams. What
//! waits for a member when its connection breaks.
//!
//! | in | claim | modes | over |
//! |---|---|---|---|
//! | `tests/group.rs` | `everybody_gets_every_message_once_in_order` | inline threads pool | tcp unix udp unixgram |
//! | `tests/group.rs` | `a_member_that_reads_too_slowly_misses_the_oldest_and_hears_how_many_first` | inline threads pool | tcp unix |
//! | `tests/group.rs` | `a_member_that_reads_too_slowly_misses_the_newest_and_hears_how_many_first` | inline threads pool | tcp unix |
//! | `tests/group.rs` | `a_member_that_reads_too_slowly_is_disconnected_with_a_last_word` | inline threads pool | tcp unix |
//! | `tests/group.rs` | `what_is_heard_and_what_is_missed_add_up_under_pressure` | inline threads pool | tcp unix |
//! | `tests/group.rs` | `one_of_a_thousand_that_never_reads_is_told_how_many_it_missed` | inline threads pool | tcp unix |
//! | `tests/group.rs` | `a_member_that_has_left_is_none_in_finish_whatever_ended_it` | inline threads pool | tcp unix udp unixgram |
//!
//! [`Context::block`]: crate::Context::block
//! [`Datagram::is_truncated`]: crate::Datagram::is_truncated
//! [`DatagramHandler`]: crate::DatagramHandler
//! [`Group`]: crate::Group
//! [`Handler::rejected`]: crate::Handler::rejected
//! [`Next::Abort`]: crate::Next::Abort
//! [`Next::Close`]: crate::Next::Close
//! [`ServerHandle::suspend`]: crate::ServerHandle::suspend
//! [`Stats::datagrams_dropped_by_kernel`]: crate::Stats::datagrams_dropped_by_kernel
//! [`Stats::replies_failed`]: crate::Stats::replies_failed
//! [`StreamHandler`]: crate::StreamHandler
