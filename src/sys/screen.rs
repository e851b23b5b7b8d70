//! What a guest's output has done to the terminal that shows it, and how that is undone.
//!
//! It follows the output as a terminal does, as far as modes go that outlive the guest: alternate screen, hidden cursor,
//! mouse and paste reports, colours, character sets, margins, keys. It does not know what is on the screen. What no
//! sequence gives back stays: the window's title, and the clipboard (OSC 52). Sources: ECMA-48; DEC STD 070; xterm's
//! ctlseqs; the keyboard protocol of kitty.

/// Private modes that are on before anybody changes them: wrapping at the margin, repeated keys, the cursor.
const ON_AT_FIRST: [u16; 3] = [7, 8, 25];
/// Modes that save or restore rather than switch: the cursor (1048).
const NO_MODES: [u16; 1] = [1048];
/// The alternate screen, under each of its numbers. It is left first, as the others are the screen's own.
const ALTERNATE: [u16; 3] = [1049, 1047, 47];
/// More modes than a guest changes.
const MODES_MAX: usize = 32;
/// More bytes than the parameters of a sequence that changes a mode have.
const PARAMETERS_MAX: usize = 64;

/// Where in a sequence the output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ground,
    /// After ESC.
    Escape,
    /// After ESC and a byte that says which character set is chosen, or another intermediate one.
    Intermediate(u8),
    /// Within a control sequence (CSI).
    Sequence,
    /// Within a string that ends with BEL or ST; whether its number is still being read, as it is for OSC.
    Text {
        is_command: bool,
    },
    /// After ESC within a string.
    TextEscape,
}

/// The modes of a terminal that differ from those before the guest.
#[derive(Debug)]
pub struct Screen {
    state: State,
    /// The last byte was the first one of a C1 control in UTF-8.
    is_c2: bool,
    parameters: [u8; PARAMETERS_MAX],
    length: usize,
    /// Private modes that are not as they were at first.
    modes: [u16; MODES_MAX],
    count: usize,
    /// Attributes of text (SGR).
    style: bool,
    /// The scrolling region (DECSTBM).
    margins: bool,
    /// The shape of the cursor (DECSCUSR).
    cursor: bool,
    /// Characters are inserted (IRM).
    insert: bool,
    /// A line feed is a new line (LNM).
    newline: bool,
    /// The keypad sends its own codes (DECKPAM).
    keypad: bool,
    /// Another character set, such as the one with lines.
    characters: bool,
    /// Keys are reported otherwise: pushed so often (kitty), or set (kitty, xterm).
    keys_pushed: u16,
    keys_set: bool,
    other_keys: bool,
    /// Colours were defined anew (OSC 4, 10, 11, 12), or a link begun (OSC 8).
    colours: bool,
    link: bool,
}

impl Screen {
    /// A terminal as it was before the guest.
    pub const fn new() -> Screen {
        Screen {
            state: State::Ground,
            is_c2: false,
            parameters: [0; PARAMETERS_MAX],
            length: 0,
            modes: [0; MODES_MAX],
            count: 0,
            style: false,
            margins: false,
            cursor: false,
            insert: false,
            newline: false,
            keypad: false,
            characters: false,
            keys_pushed: 0,
            keys_set: false,
            other_keys: false,
            colours: false,
            link: false,
        }
    }

    /// Whether `bytes` leave everything as it is.
    pub fn ignores(&self, bytes: &[u8]) -> bool {
        // ESC, SO, and the first byte of a C1 control in UTF-8.
        let begins = |byte: &u8| matches!(byte, 0x1b | 0x0e | 0xc2);
        self.state == State::Ground && !self.is_c2 && !bytes.iter().any(begins)
    }

    /// The terminal has been sent `bytes`.
    pub fn show(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let was_c2 = std::mem::replace(&mut self.is_c2, byte == 0xc2);
            if was_c2 && (0x80..0xa0).contains(&byte) {
                // A C1 control is ESC and a byte of the next column but two (ECMA-48, 5.3).
                self.byte(0x1b);
                self.byte(byte - 0x40);
            } else {
                self.byte(byte);
            }
        }
    }

    fn byte(&mut self, byte: u8) {
        self.state = match (self.state, byte) {
            // CAN and SUB end whatever has begun.
            (_, 0x18 | 0x1a) => State::Ground,
            (State::Text { .. }, 0x07) => self.command(),
            (State::Text { .. }, 0x1b) => State::TextEscape,
            (State::TextEscape, b'\\') => self.command(),
            (State::TextEscape, _) => {
                self.state = State::Escape;
                return self.byte(byte);
            }
            (State::Text { is_command: true }, _) => {
                self.keep(byte);
                self.state
            }
            (State::Text { .. }, _) => self.state,
            (_, 0x1b) => State::Escape,
            // The other half of the character set.
            (_, 0x0e) => {
                self.characters = true;
                self.state
            }
            (State::Ground, _) => State::Ground,
            (State::Escape, _) => self.escape(byte),
            (State::Intermediate(first), 0x30..=0x7e) => {
                if b"()*+-./%".contains(&first) {
                    self.characters = true;
                }
                State::Ground
            }
            (State::Intermediate(first), _) => State::Intermediate(first),
            (State::Sequence, 0x40..=0x7e) => self.sequence(byte),
            (State::Sequence, 0x20..=0x3f) => {
                self.keep(byte);
                State::Sequence
            }
            // A control within a sequence is obeyed, and the sequence goes on.
            (State::Sequence, _) => State::Sequence,
        };
    }

    fn keep(&mut self, byte: u8) {
        if let Some(place) = self.parameters.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }

    fn escape(&mut self, byte: u8) -> State {
        self.length = 0;
        match byte {
            b'[' => return State::Sequence,
            b']' => return State::Text { is_command: true },
            b'P' | b'X' | b'^' | b'_' => return State::Text { is_command: false },
            0x20..=0x2f => return State::Intermediate(byte),
            b'=' => self.keypad = true,
            b'>' => self.keypad = false,
            // Locking shifts.
            b'n' | b'o' | b'|' | b'}' | b'~' => self.characters = true,
            // The terminal begins anew (RIS).
            b'c' => *self = Screen::new(),
            _ => {}
        }
        State::Ground
    }

    /// A control sequence has ended.
    fn sequence(&mut self, last: u8) -> State {
        let parameters = self.parameters;
        let text = parameters.get(..self.length).unwrap_or_default();
        match (text.first(), last) {
            (Some(b'?'), b'h' | b'l') => {
                numbers(&text[1..]).for_each(|mode| self.private_mode(mode, last == b'h'))
            }
            (Some(b'>'), b'u') => self.keys_pushed = self.keys_pushed.saturating_add(1),
            (Some(b'<'), b'u') => {
                let count = numbers(&text[1..]).next().filter(|&count| count > 0).unwrap_or(1);
                self.keys_pushed = self.keys_pushed.saturating_sub(count);
            }
            (Some(b'='), b'u') => self.keys_set = true,
            (Some(b'>'), b'm') => self.other_keys = true,
            (Some(b'<' | b'=' | b'>' | b'?'), _) => {}
            (_, b'm') => self.style = numbers(text).any(|number| number != 0),
            (_, b'r') => self.margins = true,
            (_, b'q') if text.last() == Some(&b' ') => self.cursor = true,
            (_, b'h' | b'l') => {
                for mode in numbers(text) {
                    match mode {
                        4 => self.insert = last == b'h',
                        20 => self.newline = last == b'h',
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        State::Ground
    }

    fn private_mode(&mut self, mode: u16, is_on: bool) {
        if NO_MODES.contains(&mode) {
            return;
        }
        let is_changed = is_on != ON_AT_FIRST.contains(&mode);
        let known = self.modes.iter().take(self.count).position(|&other| other == mode);
        match (is_changed, known) {
            (true, None) if self.count < MODES_MAX => {
                self.modes[self.count] = mode;
                self.count += 1;
            }
            (false, Some(at)) => {
                self.count -= 1;
                self.modes[at] = self.modes[self.count];
            }
            _ => {}
        }
    }

    /// An operating system command (OSC) has ended.
    fn command(&mut self) -> State {
        let parameters = self.parameters;
        let text = parameters.get(..self.length).unwrap_or_default();
        match text.split(|&byte| byte == b';').next() {
            Some(b"4" | b"5" | b"10" | b"11" | b"12") => self.colours = true,
            // `8;;` ends it.
            Some(b"8") => self.link = !text.ends_with(b";"),
            _ => {}
        }
        self.length = 0;
        State::Ground
    }

    /// Writes what gives the terminal back, and forgets what was to be given back. It allocates nothing, so that a signal
    /// handler may call it.
    pub fn give_back(&mut self, mut write: impl FnMut(&[u8])) {
        let was = std::mem::replace(self, Screen::new());
        if was.state != State::Ground {
            // What has begun is not carried out.
            write(b"\x18");
        }
        let modes = || was.modes.iter().take(was.count).copied();
        let is_alternate = |mode: &u16| ALTERNATE.contains(mode);
        for mode in modes().filter(is_alternate).chain(modes().filter(|mode| !is_alternate(mode))) {
            write(b"\x1b[?");
            write_number(mode, &mut write);
            write(if ON_AT_FIRST.contains(&mode) { b"h" } else { b"l" });
        }
        if was.keys_pushed > 0 {
            write(b"\x1b[<");
            write_number(was.keys_pushed, &mut write);
            write(b"u");
        }
        for (is_changed, sequence) in [
            // The cursor goes home with the margins, and back.
            (was.margins, &b"\x1b7\x1b[r\x1b8"[..]),
            (was.cursor, b"\x1b[0 q"),
            (was.insert, b"\x1b[4l"),
            (was.newline, b"\x1b[20l"),
            (was.keypad, b"\x1b>"),
            (was.characters, b"\x1b(B\x1b)B\x0f"),
            (was.keys_set, b"\x1b[=0u"),
            (was.other_keys, b"\x1b[>4m"),
            (was.link, b"\x1b]8;;\x1b\\"),
            (was.colours, b"\x1b]104\x1b\\\x1b]110\x1b\\\x1b]111\x1b\\\x1b]112\x1b\\"),
            (was.style, b"\x1b[0m"),
        ] {
            if is_changed {
                write(sequence);
            }
        }
    }
}

/// The numbers between semicolons; nothing is 0.
fn numbers(text: &[u8]) -> impl Iterator<Item = u16> {
    text.split(|&byte| byte == b';').map(|number| {
        let digits = number.iter().take_while(|byte| byte.is_ascii_digit());
        digits.fold(0u16, |value, digit| value.saturating_mul(10).saturating_add(u16::from(digit - b'0')))
    })
}

fn write_number(number: u16, write: &mut impl FnMut(&[u8])) {
    let mut digits = [0; 5];
    let mut rest = number;
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            return write(&digits[at..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn given_back(screen: &mut Screen) -> String {
        let mut text = Vec::new();
        screen.give_back(|bytes| text.extend(bytes));
        String::from_utf8(text).unwrap()
    }

    fn after(output: &str) -> String {
        let mut screen = Screen::new();
        screen.show(output.as_bytes());
        // Byte by byte it is the same.
        let mut bytes = Screen::new();
        output.bytes().for_each(|byte| bytes.show(&[byte]));
        let back = given_back(&mut screen);
        assert_eq!(given_back(&mut bytes), back);
        assert_eq!(given_back(&mut screen), "", "once");
        back
    }

    #[test]
    fn what_is_changed_is_given_back_and_nothing_else() {
        for (output, back) in [
            ("", ""),
            ("plain text, 안녕, é\r\n\t\x08\x07", ""),
            ("\x1b[2J\x1b[H\x1b[10;20Hmoves and clears\x1b[K\x1b[3A", ""),
            ("\x1b[?1049h", "\x1b[?1049l"),
            ("\x1b[?1049hleft again\x1b[?1049l", ""),
            ("\x1b[?25l", "\x1b[?25h"),
            ("\x1b[?25l\x1b[?25h", ""),
            // To be sure, many programs switch off what was never on.
            ("\x1b[?1000l\x1b[?2004l\x1b[?7h", ""),
            ("\x1b[?25l\x1b[?1000;1006h\x1b[?1049h", "\x1b[?1049l\x1b[?25h\x1b[?1000l\x1b[?1006l"),
            ("\x1b[?2004h\x1b[?1004h\x1b[?1h\x1b=", "\x1b[?2004l\x1b[?1004l\x1b[?1l\x1b>"),
            ("\u{9b}?1003h", "\x1b[?1003l"),
            ("\x1b[?1048h", ""),
            ("\x1b[1;31mred", "\x1b[0m"),
            ("\x1b[1;31mred\x1b[m", ""),
            ("\x1b[38;5;0mblack", "\x1b[0m"),
            ("\x1b[1;31mred\x1b[0m\x1b[0;32m", "\x1b[0m"),
            ("\x1b[>4;2m", "\x1b[>4m"),
            ("\x1b[5;10r", "\x1b7\x1b[r\x1b8"),
            ("\x1b[4 q", "\x1b[0 q"),
            ("\x1b[4h\x1b[20h", "\x1b[4l\x1b[20l"),
            ("\x1b(0lines", "\x1b(B\x1b)B\x0f"),
            ("\x0e", "\x1b(B\x1b)B\x0f"),
            ("\x1b[>1u\x1b[>3u", "\x1b[<2u"),
            ("\x1b[>1u\x1b[<u", ""),
            ("\x1b[=5u", "\x1b[=0u"),
            ("\x1b]11;#000\x07", "\x1b]104\x1b\\\x1b]110\x1b\\\x1b]111\x1b\\\x1b]112\x1b\\"),
            ("\x1b]8;;http://x\x1b\\link", "\x1b]8;;\x1b\\"),
            ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", ""),
            // Titles and the clipboard cannot be had back.
            ("\x1b]0;title\x07\x1b]52;c;aGk=\x1b\\", ""),
            // Whatever stands in a string is not a sequence.
            ("\x1bPq[?25l\x1b\\", ""),
            // All is new.
            ("\x1b[?1049h\x1b[?25l\x1bc", ""),
            // What has only begun.
            ("\x1b", "\x18"),
            ("\x1b[?25", "\x18"),
            ("\x1b]0;tit", "\x18"),
            ("\x1b]0;tit\x18", ""),
        ] {
            assert_eq!(after(output), back, "{output:?}");
        }
        let long = format!("\x1b[?25l\x1b[{}m", "1;".repeat(1000));
        assert_eq!(after(&long), "\x1b[?25h\x1b[0m");
    }

    proptest! {
        #[test]
        fn whatever_comes_it_is_followed_and_what_is_given_back_leaves_nothing(
            parts in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(any::<u8>(), 0..8),
                    "\\x1b\\[[?<=>]?[0-9;]{0,9}[ -~]".prop_map(String::into_bytes),
                    "\\x1b[\\]PX_^][0-9;]{0,9}(\\x07|\\x1b\\\\)?".prop_map(String::into_bytes),
                ],
                0..40,
            )
        ) {
            let mut screen = Screen::new();
            for part in &parts {
                let mut untouched = Screen::new();
                if untouched.ignores(part) {
                    untouched.show(part);
                    prop_assert_eq!(format!("{untouched:?}"), format!("{:?}", Screen::new()));
                }
                screen.show(part);
            }
            let mut back = Vec::<u8>::new();
            screen.give_back(|bytes| back.extend(bytes));
            prop_assert_eq!(screen.state, State::Ground);
            prop_assert_eq!(screen.count, 0);
        }
    }
}
