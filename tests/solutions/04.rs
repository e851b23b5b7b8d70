//! A solution of exercise 04, serve a port: look after you have tried.

use matchstick::kvm::Exit;

/// Serves one exit and says whether the guest is to go on. `state` is yours, 0 before the first exit.
pub fn serve(exit: Exit<'_>, state: &mut u16) -> bool {
    match exit {
        Exit::Out { port: 0x10, data: &[byte], .. } => *state = u16::from(byte).pow(2),
        Exit::In { port: 0x10, size: 2, data } => data.copy_from_slice(&state.to_le_bytes()),
        Exit::In { data, .. } => data.fill(0xff),
        Exit::Out { .. } => {}
        _ => return false,
    }
    true
}
