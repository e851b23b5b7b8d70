//! A segment as one value, from which both its GDT entry and KVM's struct are made.
//!
//! Source: Intel SDM volume 3A, section 3.4.5 "Segment Descriptors" (figure 3-8).

use kvm_bindings::kvm_segment;

/// A code, data or task-state segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// The selector the register holds: index × 8 for an entry of the GDT.
    pub selector: u16,
    /// Linear address of byte 0.
    pub base: u64,
    /// Last valid offset, in bytes: 0xffff_ffff is all 4 GiB.
    pub limit: u32,
    /// Type, bits 8 to 11 of the descriptor's upper half (SDM 3.4.5.1): of code and data, bit 3 is code, bit 1
    /// writable or readable, bit 0 accessed; of system segments, 2 is an LDT and 0xb a busy TSS.
    pub type_: u8,
    /// S: true for code and data, false for system segments.
    pub s: bool,
    /// DPL, 0 to 3: the ring that the segment belongs to.
    pub dpl: u8,
    /// D/B: 32-bit operands and addresses by default.
    pub db: bool,
    /// L: 64-bit code.
    pub l: bool,
}

/// Readable code, already marked accessed.
const CODE: u8 = 0xb;
/// Writable data, already marked accessed.
const DATA: u8 = 0x3;
/// A 32- or 64-bit task-state segment in use.
const BUSY_TSS: u8 = 0xb;

impl Segment {
    /// 64-bit code: base and limit do not count (SDM 3.4.5, bit L).
    pub const CODE64: Segment = Segment {
        selector: 0x10,
        base: 0,
        limit: 0xffff_ffff,
        type_: CODE,
        s: true,
        dpl: 0,
        db: false,
        l: true,
    };
    /// 32-bit flat code.
    pub const CODE32: Segment = Segment { db: true, l: false, ..Segment::CODE64 };
    /// Flat data, for 32- and 64-bit guests alike.
    pub const DATA: Segment = Segment { selector: 0x18, type_: DATA, ..Segment::CODE32 };
    /// A task-state segment nobody switches to; VM entry demands that TR holds one (SDM 26.3.1.2).
    pub const TSS: Segment =
        Segment { selector: 0x20, limit: 0x67, type_: BUSY_TSS, s: false, db: false, ..Segment::CODE32 };
    /// Real-mode code at segment 0; the limit is what a reset leaves (SDM 9.1.4).
    pub const REAL_CODE: Segment =
        Segment { selector: 0, limit: 0xffff, db: false, l: false, ..Segment::CODE64 };
    /// Real-mode data at segment 0.
    pub const REAL_DATA: Segment = Segment { type_: DATA, ..Segment::REAL_CODE };

    /// G: the limit field counts pages, not bytes, once it needs more than 20 bits.
    const fn g(self) -> bool {
        self.limit > 0xf_ffff
    }

    /// The eight bytes of the segment's GDT entry.
    pub const fn descriptor(self) -> u64 {
        let limit = if self.g() { self.limit >> 12 } else { self.limit } as u64;
        let base = self.base;
        let present = 1;
        (limit & 0xffff)
            | (base & 0xff_ffff) << 16
            | (self.type_ as u64) << 40
            | (self.s as u64) << 44
            | (self.dpl as u64 & 3) << 45
            | present << 47
            | (limit >> 16 & 0xf) << 48
            | (self.l as u64) << 53
            | (self.db as u64) << 54
            | (self.g() as u64) << 55
            | (base >> 24 & 0xff) << 56
    }

    /// The segment as KVM takes it: the processor's hidden copy of the descriptor.
    pub fn kvm(self) -> kvm_segment {
        kvm_segment {
            base: self.base,
            limit: self.limit,
            selector: self.selector,
            type_: self.type_,
            present: 1,
            dpl: self.dpl,
            db: self.db.into(),
            s: self.s.into(),
            l: self.l.into(),
            g: self.g().into(),
            ..kvm_segment::default()
        }
    }
}

/// The descriptor table of a guest that starts in long mode: each entry lies at its selector. The
/// last eight bytes are the upper half of the task-state segment (SDM 8.2.3).
pub const GDT: [u64; 6] =
    [0, 0, Segment::CODE64.descriptor(), Segment::DATA.descriptor(), Segment::TSS.descriptor(), 0];

const _: () = assert!(Segment::CODE64.descriptor() == 0x00af_9b00_0000_ffff);
const _: () = assert!(Segment::CODE32.descriptor() == 0x00cf_9b00_0000_ffff);
const _: () = assert!(Segment::DATA.descriptor() == 0x00cf_9300_0000_ffff);
const _: () = assert!(Segment::TSS.descriptor() == 0x0000_8b00_0000_0067);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the processor makes of a descriptor (SDM 3.4.5, figure 3-8), as KVM's struct has it.
    fn decode(descriptor: u64, selector: u16) -> kvm_segment {
        let bits = |at: u32, count: u32| descriptor >> at & ((1 << count) - 1);
        let limit = (bits(0, 16) | bits(48, 4) << 16) as u32;
        let granularity = bits(55, 1) as u8;
        kvm_segment {
            base: bits(16, 24) | bits(56, 8) << 24,
            limit: if granularity == 1 { limit << 12 | 0xfff } else { limit },
            selector,
            type_: bits(40, 4) as u8,
            s: bits(44, 1) as u8,
            dpl: bits(45, 2) as u8,
            present: bits(47, 1) as u8,
            avl: bits(52, 1) as u8,
            l: bits(53, 1) as u8,
            db: bits(54, 1) as u8,
            g: granularity,
            ..kvm_segment::default()
        }
    }

    #[test]
    fn each_entry_of_the_gdt_lies_at_its_selector_and_means_its_segment() {
        for segment in [Segment::CODE64, Segment::DATA, Segment::TSS] {
            let descriptor = GDT[usize::from(segment.selector / 8)];
            assert_eq!(decode(descriptor, segment.selector), segment.kvm());
        }
        assert_eq!(GDT[0], 0, "the null descriptor");
    }

    #[test]
    fn real_mode_reaches_64_kib() {
        assert_eq!(Segment::REAL_CODE.kvm().limit, 0xffff);
        assert_eq!((Segment::REAL_DATA.kvm().g, Segment::REAL_DATA.kvm().db), (0, 0));
    }

    /// Exhaustive where it can be: each limit, each type with each flag and DPL, each bit of the base.
    #[test]
    fn every_value_of_every_field_is_encoded_as_it_is_read() {
        let bases = [0, 0xffff_ffff].into_iter().chain((0..32).map(|bit| 1 << bit));
        let shapes = (0..16).flat_map(|type_| (0..32).map(move |flags| (type_, flags)));
        let of = |base, limit, (type_, flags): (u8, u8)| Segment {
            selector: 8,
            base,
            limit,
            type_,
            s: flags & 1 != 0,
            dpl: flags >> 3,
            db: flags & 2 != 0,
            l: flags & 4 != 0,
        };
        let limits = (0..=0xf_ffff).chain((0x100..=0xf_ffff).map(|pages: u32| pages << 12 | 0xfff));
        let by_limit = limits.map(|limit| of(0, limit, (CODE, 1)));
        let by_shape = bases.flat_map(|base| shapes.clone().map(move |shape| of(base, 0xf_ffff, shape)));
        for segment in by_limit.chain(by_shape) {
            assert_eq!(decode(segment.descriptor(), 8), segment.kvm());
        }
    }

    proptest! {
        #[test]
        fn both_encodings_of_a_segment_say_the_same(
            base in 0_u64..1 << 32,
            limit in prop_oneof![0_u32..=0xf_ffff, (0x100_u32..=0xf_ffff).prop_map(|pages| pages << 12 | 0xfff)],
            type_ in 0_u8..16,
            dpl in 0_u8..4,
            flags in any::<[bool; 3]>(),
        ) {
            let [s, db, l] = flags;
            let segment = Segment { selector: 8, base, limit, type_, s, dpl, db, l };
            prop_assert_eq!(decode(segment.descriptor(), 8), segment.kvm());
        }
    }
}
