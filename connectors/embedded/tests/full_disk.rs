//! A disk that fills up under a running session: the reason is readable, nothing accepted is lost, and with room again it goes on.
//!
//! The test starts itself as child processes, on a disk where files may not grow beyond 1 KiB for a while (the kernel refuses the write
//! as it does on a full disk, and every user may have it so), and on a disk of 24 MB, a tmpfs in a mount namespace of its own, wherever
//! the system grants one.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;
use std::process::Command;

use pitwall_embedded::data::DataDirectory;
use pitwall_embedded::pace::Pace;
use pitwall_embedded::sink::Sink;
use pitwall_engine::backtest::Outcome;
use pitwall_engine::log::Committed;

/// The disk fills while the session runs, then it is full from the start, then there is room.
const TMPFS: &str = r#"
mount -t tmpfs -o size=24m tmpfs "$PITWALL_DISK" || exit 9
"$0" "$@"; "$0" "$@"
mount -o remount,size=2g "$PITWALL_DISK" || exit 9
"$0" "$@"
"#;

/// A part of the session with room, the next without, the rest with room again. A process that ignores the signal gets an error.
const LIMIT: &str = r#"
trap '' XFSZ
PITWALL_STOP_AFTER=200000 "$0" "$@"
(ulimit -f 1; "$0" "$@")
"$0" "$@"
"#;

/// The child: goes on with the race and says how far it comes and why no farther.
#[test]
#[ignore = "the test beside it starts it as a process of its own"]
fn child() {
    let folder = std::env::var("PITWALL_DISK").unwrap();
    let stop_after: Option<u64> = std::env::var("PITWALL_STOP_AFTER").ok().map(|seq| seq.parse().unwrap());
    let mut data = match DataDirectory::open(&Path::new(&folder).join("data"), &support::kinds(), Default::default()) {
        Ok(data) => data,
        Err(error) => return println!("\nrefused {error}"),
    };
    let sink = Sink::start(data.log.clone(), data.store.clone()).unwrap();
    let (send, told) = std::sync::mpsc::channel();
    let observer = move |committed: &Committed<'_>| {
        println!("\ncommitted {}", committed.head.last_seq);
        let _ = send.send(committed.head.last_seq);
    };
    let (runtime, replay) = support::start(&data.log, 9_920, Pace::at(f64::INFINITY), Some(sink.pending()), None, observer);
    println!("\nat {}", runtime.resumed_at().map_or(0, |head| head.last_seq));
    if let Some(stop_after) = stop_after {
        assert!(told.iter().any(|seq| seq >= stop_after));
        drop(replay);
        runtime.stop().unwrap();
        return;
    }
    replay.join().unwrap();
    match runtime.stop() {
        Ok(head) => println!("\nended {:?} {:?}", head.unwrap().facts_hash, support::hash_of_facts(&mut data.log, 9_920)),
        Err(error) => println!("\nfailed {error}"),
    }
}

/// Runs `script` with the child's command as its arguments; returns what the children said, `None` when there is no such disk.
fn run(shell: &[&str], script: &str) -> Option<Vec<String>> {
    let disk = tempfile::tempdir().unwrap();
    let (program, arguments) = shell.split_first().unwrap();
    let output = Command::new(program)
        .args(arguments)
        .args(["sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child", "--nocapture"])
        .env("PITWALL_DISK", disk.path())
        .output()
        .ok()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<String> = said.lines().map(str::to_owned).collect();
    lines.iter().any(|line| line.starts_with("at ")).then_some(lines)
}

#[test]
fn a_disk_that_fills_up_loses_nothing_accepted_says_why_and_with_room_again_the_session_goes_on() {
    let expected = support::backtest();
    let limited = run(&["env"], LIMIT).unwrap();
    holds(&limited, &expected);
    if let Some(filled) = run(&["unshare", "--mount", "--map-root-user"], TMPFS) {
        holds(&filled, &expected);
    }
}

/// Checks what the children said, in order.
fn holds(said: &[String], expected: &Outcome) {
    let after = |word: &str| said.iter().filter_map(|line| line.strip_prefix(word)).map(str::to_owned).collect::<Vec<_>>();
    let mut accepted = 0;
    for line in said {
        if let Some(seq) = line.strip_prefix("committed ") {
            accepted = seq.parse().unwrap();
        } else if let Some(seq) = line.strip_prefix("at ") {
            assert!(seq.parse::<u64>().unwrap() >= accepted, "what was told is still there: {line} after {accepted}");
        }
    }
    let reasons = [after("failed "), after("refused ")].concat();
    assert!(!reasons.is_empty(), "the disk was full: {said:?}");
    for reason in reasons {
        let says_why = reason.contains("No space left on device") || reason.contains("File too large");
        assert!(says_why && reason.contains("data"), "{reason}");
    }
    let hash = expected.facts_hash;
    assert_eq!(after("ended "), [format!("{hash:?} {:?}", (expected.facts, hash))]);
}
