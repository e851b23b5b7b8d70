use std::{env, fs, path::Path};
fn main() {
    let out = env::var("OUT_DIR").unwrap();
    let code: Vec<u8> = vec![
        0xbe, 0x00, 0x7d, 0xb9, 29, 0, 0xba, 0xf8, 0x03, 0xfc, 0xf3, 0x6e, 0xba, 0xf4, 0, 0xb0, 0, 0xee, 0xf4,
    ];
    let mut image = vec![0u8; 512];
    image[..code.len()].copy_from_slice(&code);
    image[0x100..0x100 + 29].copy_from_slice(b"Hello from a virtual machine\n");
    image[510] = 0x55;
    image[511] = 0xaa;
    let p = Path::new(&out).join("hello.bin");
    fs::write(&p, &image).unwrap();
    fs::write(Path::new(&out).join("gallery.rs"), format!("&[Guest {{ name: \"hello\", about: \"x\", expect: &[], exit: 0, input: \"\", needs: &[], image: include_bytes!({p:?}) }}]")).unwrap();
}
