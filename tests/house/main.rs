//! Text against text: the sources keep the rules of the house, the documents say what is there, and help, man page
//! and completions know every option. No virtual machine is started.

#[path = "../support/mod.rs"]
mod support;

mod docs;
mod layout;
mod names;
mod options;
mod rules;
