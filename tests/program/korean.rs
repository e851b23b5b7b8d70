//! What is said to people in Korean, where the locale is a Korean one; what programs read stays as it is.

use crate::support::{Program, matchstick};
use unicode_width::UnicodeWidthStr;

fn in_korean(args: &[&str]) -> Program {
    matchstick(args).env("LC_ALL", "ko_KR.UTF-8")
}

#[test]
fn help_host_and_errors_are_in_korean() {
    let help = in_korean(&["help", "run"]).run().text();
    assert!(
        help.contains("사용법: matchstick run [OPTIONS]") && help.contains("이 도움말을 보여 줍니다"),
        "{help}"
    );
    let host = in_korean(&["host"]).env("COLUMNS", "80").run().text();
    assert!(host.contains("matchstick에 필요한 것") && host.contains("여기에서 잰 시간"), "{host}");
    assert!(host.lines().all(|line| line.width() <= 80), "{host}");
    let ended = in_korean(&["run", "nope"]).run();
    ended.status(127).says("오류: 그런 게스트도 파일도 없습니다: \"nope\"").says("\n 도움말: ");
}

/// An escape in somebody's name is spelled out in every language.
#[test]
fn a_name_is_shown_and_not_obeyed_in_korean_too() {
    let ended = in_korean(&["run", "/no\x1b[2Jpe"]).run();
    ended.status(127);
    assert!(!ended.stderr.contains('\x1b'), "{ended:?}");
}

#[test]
fn another_locale_and_json_are_as_they_were() {
    for locale in ["C", "en_US.UTF-8", "ko_KR.EUC-KR"] {
        matchstick(["run", "nope"])
            .env("LC_ALL", locale)
            .run()
            .says("error: no guest and no file")
            .status(127);
    }
    let json = |locale: &str| {
        let text = matchstick(["host", "--json"]).env("LC_ALL", locale).run().text();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["host"]["types"].clone()
    };
    let without_process = |value: serde_json::Value| {
        let text = value.to_string();
        text.split("process ")
            .map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit()))
            .collect::<String>()
    };
    assert_eq!(without_process(json("ko_KR.UTF-8")), without_process(json("C")));
}
