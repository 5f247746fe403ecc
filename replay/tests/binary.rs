//! The binary: its arguments, and that it says when it answers.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_expert-router-replay"))
}

#[test]
fn it_answers_from_a_file_once_it_says_ready() {
    let folder = tempfile::tempdir().unwrap();
    let outcomes = folder.path().join("outcomes.jsonl");
    std::fs::write(&outcomes, r#"{"id":"1","prompt":"Why?","outcomes":[{"expert":"small","response":"Because.","seconds":5}]}"#).unwrap();
    let mut child =
        command().arg("--outcomes").arg(&outcomes).args(["--expert", "small", "--speed", "1000"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let _running = Running(child);
    let address = line.trim().strip_prefix("READY http://").expect("the line that says it answers");
    let mut stream = TcpStream::connect(address).unwrap();
    let body = r#"{"model":"m","messages":[{"role":"user","content":"Why?"}]}"#;
    write!(stream, "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("Because."), "{answer}");
}

#[test]
fn wrong_arguments_are_explained() {
    let folder = tempfile::tempdir().unwrap();
    let outcomes = folder.path().join("outcomes.jsonl");
    std::fs::write(&outcomes, r#"{"id":"1","prompt":"Why?","outcomes":[{"expert":"small"}]}"#).unwrap();
    for (arguments, word) in [
        (vec!["--outcomes", outcomes.to_str().unwrap(), "--expert", "big"], "it has small"),
        (vec!["--script", "explode"], "`explode`"),
        (vec!["--speed=-1"], "a number from 0"),
        (vec!["--outcomes", "/no/such/file"], "/no/such/file"),
    ] {
        let output = command().args(&arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(word), "{arguments:?}: {said}");
    }
}
