//! A solution of exercise 05, a driver: look after you have tried.

/// The guest's machine code, assembled. A small letter is 32 above its capital.
pub fn guest() -> &'static [u8] {
    guest! {
        ".code16"
        "2: mov dx, 0x3fd"
        "3: in al, dx"
        "test al, 1"
        "jz 3b"
        "mov dx, 0x3f8"
        "in al, dx"
        "cmp al, 'a'"
        "jb 4f"
        "cmp al, 'z'"
        "ja 4f"
        "sub al, 32"
        "4: mov ah, al"
        "mov dx, 0x3fd"
        "5: in al, dx"
        "test al, 0x20"
        "jz 5b"
        "mov al, ah"
        "mov dx, 0x3f8"
        "out dx, al"
        "cmp al, 10"
        "jne 2b"
        "hlt"
    }
}
