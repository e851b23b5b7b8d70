//! A guest that writes nothing: whoever sits before it is told why after a second, once.
//!
//! What it may wait for in vain is found by [`missing`](super::missing); here is only when to look.

use super::missing::{BiosWatch, Missing};
use super::{Output, lock};
use crate::kvm::Vcpu;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long a guest may be silent before something is said.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is called when the guest was silent for that long, with what it seems to miss.
type Notice = Box<dyn FnOnce(Option<Missing>) + Send>;

/// Watches for a silence, if anybody asked for that.
#[derive(Default)]
pub(super) struct SilenceWatch(Mutex<Option<Watched>>);

struct Watched {
    notice: Notice,
    /// When the guest was looked at first.
    since: Option<Instant>,
}

impl SilenceWatch {
    /// Calls `notice` after the first second, unless the guest has written something by then.
    pub fn ask(&self, notice: impl FnOnce(Option<Missing>) + Send + 'static) {
        *lock(&self.0) = Some(Watched { notice: Box::new(notice), since: None });
    }

    /// Looks whether the time has come. `vcpu` is the first one, out of the guest.
    pub fn look(&self, vcpu: &mut Vcpu, output: &Mutex<Output>, bios_watch: &BiosWatch) {
        let mut watched = lock(&self.0);
        let Some(Watched { since, .. }) = &mut *watched else { return };
        if lock(output).has_begun() {
            *watched = None;
        } else if since.get_or_insert_with(Instant::now).elapsed() >= PATIENCE
            && let Some(Watched { notice, .. }) = watched.take()
        {
            let now = |vcpu: &mut Vcpu| {
                let registers = vcpu.registers_at_exit().ok()?;
                Missing::find(&registers, registers.linear_rip(), vcpu.memory())
            };
            notice(bios_watch.found().or_else(|| now(vcpu)));
        }
    }
}
