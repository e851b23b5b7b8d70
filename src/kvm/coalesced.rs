//! Coalesced writes: what a guest writes to a port that needs no answer. KVM keeps these bytes in a ring until the next
//! exit, so that not each of them is an exit.
//!
//! Source: KVM API document, `KVM_(UN)REGISTER_COALESCED_MMIO`; the ring is in linux/kvm.h.

use super::{Vcpu, Vm};
use kvm_bindings::{KVM_COALESCED_MMIO_PAGE_OFFSET, kvm_coalesced_mmio, kvm_coalesced_mmio_ring};
use kvm_ioctls::IoEventAddress;
use std::io;
use std::mem::{offset_of, size_of};
use std::ptr::{NonNull, addr_of_mut};
use std::sync::atomic::{AtomicU32, Ordering};

/// The ring fills one page: two indices, then as many entries as fit.
const PAGE: usize = 0x1000;
const ENTRIES: usize =
    (PAGE - offset_of!(kvm_coalesced_mmio_ring, coalesced_mmio)) / size_of::<kvm_coalesced_mmio>();

/// The bytes that KVM keeps for one port of a machine, in the order in which the vCPUs wrote them.
///
/// They were written before the exit that follows: take them before you serve it.
pub struct Coalesced {
    /// A mapping of our own.
    ring: NonNull<kvm_coalesced_mmio_ring>,
    port: u16,
}

// SAFETY: the mapping belongs to the process, not to a thread, and is used through `&mut` alone.
unsafe impl Send for Coalesced {}

impl Coalesced {
    /// Maps the ring, which is that of the whole machine, once more: it lies among the pages that KVM shares through any
    /// vCPU. By mremap(2), whose old size of 0 means a second mapping, as the sandbox allows no file to be mapped.
    fn map(port: u16, vcpu: &Vcpu) -> io::Result<Coalesced> {
        let ring = vcpu.shared_pages() + KVM_COALESCED_MMIO_PAGE_OFFSET as usize * PAGE;
        // SAFETY: nothing is moved or unmapped; it fails where no shared page is mapped.
        let page = unsafe { libc::mremap(ring as *mut libc::c_void, 0, PAGE, libc::MREMAP_MAYMOVE) };
        match NonNull::new(page) {
            Some(page) if page.as_ptr() != libc::MAP_FAILED => Ok(Coalesced { ring: page.cast(), port }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Takes all there are: the port, and the bytes, as if they were one string.
    pub fn drain<'b>(&mut self, bytes: &'b mut [u8; ENTRIES]) -> (u16, &'b [u8]) {
        // SAFETY: the page stays mapped as long as `self` lives. Both indices are in it, aligned; KVM moves
        // `last`, after it has written the entry, and nobody but us moves `first`.
        let (first, last) = unsafe {
            let ring = self.ring.as_ptr();
            (
                AtomicU32::from_ptr(addr_of_mut!((*ring).first)),
                AtomicU32::from_ptr(addr_of_mut!((*ring).last)),
            )
        };
        let mut at = first.load(Ordering::Relaxed) as usize % ENTRIES;
        let end = last.load(Ordering::Acquire) as usize % ENTRIES;
        let mut count = 0;
        while at != end {
            // SAFETY: `at` is less than the number of entries in the page, and KVM does not touch this one until
            // `first` has moved on. It is a write of one byte, as no other was asked for.
            bytes[count] = unsafe { (*(*self.ring.as_ptr()).coalesced_mmio.as_ptr().add(at)).data[0] };
            (at, count) = ((at + 1) % ENTRIES, count + 1);
        }
        first.store(end as u32, Ordering::Release);
        (self.port, &bytes[..count])
    }

    /// Room for all that may be there.
    pub const fn room() -> [u8; ENTRIES] {
        [0; ENTRIES]
    }
}

impl Drop for Coalesced {
    fn drop(&mut self) {
        // SAFETY: mapped by `map`, with this length, and not used again.
        unsafe { libc::munmap(self.ring.as_ptr().cast(), PAGE) };
    }
}

impl Vm {
    /// From now on KVM coalesces what the guest writes to the byte at `port` (`KVM_REGISTER_COALESCED_MMIO`).
    ///
    /// `None` where this host's KVM refuses. One before Linux 4.20, which lacks `KVM_CAP_COALESCED_PIO`, takes the
    /// port for an address in memory, where there is nothing to coalesce, and goes on as before.
    pub fn coalesce_writes(&self, port: u16, vcpu: &Vcpu) -> Option<Coalesced> {
        let coalesced = Coalesced::map(port, vcpu).ok()?;
        self.fd.register_coalesced_mmio(IoEventAddress::Pio(port.into()), 1).ok()?;
        Some(coalesced)
    }
}
