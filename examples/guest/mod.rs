//! An assembler for the guests of the course: the one that the Rust compiler brings along.
//!
//! Not an example, and nothing that runs on this side: the instructions lie in this program's read-only data, from
//! where they are copied into the guest's memory. So they must not name an address of their own. Syntax: Intel's,
//! as in `core::arch::asm!`; the directives `.code16` and `.code32` say for which mode. A guest begins at a multiple of 256
//! bytes, so that `.p2align` up to 8 means the same here as there.

/// The bytes of the instructions in these lines; 64-bit code unless a first line says `.code16` or `.code32`.
macro_rules! guest {
    ($($line:literal)*) => {{
        let (start, end): (*const u8, *const u8);
        #[allow(unsafe_code, reason = "only the linker knows where it has put them")]
        // SAFETY: the two labels stand around bytes of this program that nothing changes. What runs here, between
        // them and the slice, is two instructions that compute addresses.
        unsafe {
            std::arch::asm!(
                ".pushsection .rodata", ".balign 256", "770:", $($line,)* ".code64", "771:", ".popsection",
                "lea {start}, [rip + 770b]",
                "lea {end}, [rip + 771b]",
                start = out(reg) start,
                end = out(reg) end,
                options(nomem, nostack, preserves_flags),
            );
            std::slice::from_raw_parts(start, end.offset_from_unsigned(start))
        }
    }};
}
