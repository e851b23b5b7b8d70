//! What has come for a thread's program and is not delivered yet: one signal, as the others wait in the kernel.

use std::cell::{Cell, UnsafeCell};
use std::sync::atomic::{AtomicU32, Ordering, compiler_fence};

/// Bytes of the siginfo_t that the kernel hands out.
pub(super) const INFO: usize = 128;

/// A signal that has come.
#[derive(Clone, Copy)]
pub struct Noted {
    /// Its number.
    pub signal: i32,
    /// Its siginfo_t, as the kernel made it: none of its addresses is one of ours.
    pub info: [u8; INFO],
}

/// What has come for a thread and is not delivered yet.
pub struct Inbox {
    /// The signal, or 0.
    signal: AtomicU32,
    info: UnsafeCell<[u8; INFO]>,
    /// Makes the thread's vCPU leave the guest.
    kick: Cell<Option<fn()>>,
}

thread_local! {
    static INBOX: Inbox = const {
        Inbox { signal: AtomicU32::new(0), info: UnsafeCell::new([0; INFO]), kick: Cell::new(None) }
    };
}

impl Inbox {
    /// The word that says whether a signal waits, for [`call`](super::call).
    pub(super) fn address() -> *const u32 {
        INBOX.with(|inbox| inbox.signal.as_ptr().cast_const())
    }

    /// Whether a signal waits to be delivered to the calling thread's program.
    pub fn is_empty() -> bool {
        INBOX.with(|inbox| inbox.signal.load(Ordering::Relaxed) == 0)
    }

    /// Takes what has come. Until [`mask`](super::mask) is called, nothing else comes.
    pub fn take() -> Option<Noted> {
        INBOX.with(|inbox| {
            let signal = inbox.signal.load(Ordering::Relaxed) as i32;
            if signal == 0 {
                return None;
            }
            // SAFETY: the handler writes only while there is no signal, and runs on this thread.
            let info = unsafe { *inbox.info.get() };
            compiler_fence(Ordering::SeqCst);
            inbox.signal.store(0, Ordering::Relaxed);
            Some(Noted { signal, info })
        })
    }
}

/// From now on signals for the calling thread are noted, and `kick` is called when one comes. It may do what signal
/// handlers may.
pub fn attach(kick: fn()) {
    INBOX.with(|inbox| inbox.kick.set(Some(kick)));
}

/// Notes a signal with its siginfo_t, unless one waits already, and calls the vCPU back. For the signal's handler, which
/// runs on the thread that it is for.
pub(super) fn note(signal: i32, info: &[u8]) {
    INBOX.with(|inbox| {
        if inbox.signal.load(Ordering::Relaxed) == 0 {
            // SAFETY: `take` reads only while there is a signal, and this handler has interrupted it elsewhere.
            unsafe { (*inbox.info.get()).copy_from_slice(info) };
            compiler_fence(Ordering::SeqCst);
            inbox.signal.store(signal as u32, Ordering::Relaxed);
        }
        if let Some(kick) = inbox.kick.get() {
            kick();
        }
    });
}
