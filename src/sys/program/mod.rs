//! What a process does on behalf of a Linux program that runs in a VM beside it: its memory, its system calls, its
//! signals, its children, each behind a safe interface.
//!
//! Nothing here knows about virtual machines, nor what a program may do: that is [`crate::program`]'s matter.

mod arena;
mod call;
mod copy;
mod files;
mod inbox;
mod lending;
pub mod limits;
mod private;
mod process;
mod shared;
mod signals;
mod stopwatch;
mod vdso;
mod wall;

pub use arena::{Arena, Source};
pub use call::{
    Argument, FCNTLS, IOCTLS, Message, NOT_MADE, PRCTLS, Part, Piece, RESTART, addresses, call, is_passed_on,
};
pub use copy::Fault;
pub use files::{Handle, Identity, Kind, close, close_on_exec, identity, lists_descriptors};
pub use inbox::{Inbox, Noted, attach};
pub use lending::{Changed, Lender, Lending, changed_pages};
pub use private::private_directory;
pub use process::{
    Forked, auxiliary, become_output, become_user, close_ours_but, duplicate_above, end_process, fork, ids,
    is_child, lowest_of_ours, parent, processors, read_process, set_name, thread_id, use_processors,
    wait_for,
};
pub use shared::shared_words;
pub use signals::{
    Action, WHOLE_MASK, current_mask, default_everything, die_of, host_mask, is_ignored, is_kick, kick, mask,
    on_fault_in_copies, send_to_thread, set_action,
};
pub use stopwatch::{begin_host_time, end_host_time};
pub use vdso::{VdsoData, vdso_code};
pub use wall::wall;
