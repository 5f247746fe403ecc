//! Good files come back as they were; bad ones name file and line.

use std::{fs, io::Write, path::PathBuf};

use super::{Outcome, Reader, Row, Split, Writer, read};

fn row(id: &str) -> Row {
    let json = format!(
        r#"{{"id":"{id}","dataset":"sums","prompt":"1 + 1?","outcomes":[{{"expert":"a","score":0.25}},{{"expert":"b"}}],"mine":7}}"#
    );
    serde_json::from_str(&json).unwrap()
}

fn file(folder: &tempfile::TempDir, content: &[u8]) -> PathBuf {
    let path = folder.path().join("outcomes.jsonl");
    fs::write(&path, content).unwrap();
    path
}

#[test]
fn rows_come_back_as_written_plain_and_compressed() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"] {
        let path = folder.path().join(name);
        let mut writer = Writer::create(&path).unwrap();
        for id in ["one", "two"] {
            writer.write(&row(id)).unwrap();
        }
        writer.finish().unwrap();
        assert_eq!(read(&path).unwrap(), [row("one"), row("two")], "{name}");
    }
}

#[test]
fn an_unfinished_writer_leaves_the_old_file_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, b"old");
    let mut writer = Writer::create(&path).unwrap();
    writer.write(&row("new")).unwrap();
    drop(writer);
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn bad_rows_name_file_line_and_field() {
    let good = serde_json::to_string(&row("good")).unwrap();
    let cases = [
        (good.clone(), ":2: id: `good` is on line 1 already"),
        (r#"{"id":"x","prompt":"p","outcomes":[{"expert":"a","score":NaN}]}"#.into(), ":2: outcomes[0].score: expected"),
        (r#"{"id":"x","prompt":"p","outcomes":[{"expert":"a","score":1e999}]}"#.into(), ":2: outcomes[0].score: number out of range"),
        (r#"{"id":"x","prompt":"p","outcomes":[{"expert":"a","score":1.5}]}"#.into(), ":2: outcomes[0].score: must be from 0 to 1"),
        (
            r#"{"id":"x","prompt":"p","outcomes":[{"expert":"a","cost_usd":-1}]}"#.into(),
            ":2: outcomes[0].cost_usd: must be finite and at least 0",
        ),
        (r#"{"id":"x","prompt":"p","outcomes":[{"expert":"a"},{"expert":"a"}]}"#.into(), ":2: outcomes[1].expert: `a` is there twice"),
        (r#"{"id":"x","outcomes":[]}"#.into(), ":2: prompt: either this or messages is needed"),
        (r#"{"id":7}"#.into(), ":2: id: invalid type"),
        ("[]".into(), ":2: invalid type: sequence, expected a JSON object"),
        (r#"{"id":"x","prompt":"p"} {}"#.into(), ":2: more than one JSON value"),
        (r#"{"id":"x","prompt":"p""#.into(), ":2: EOF while parsing"),
        ("\u{0}".into(), ":2: expected value"),
    ];
    for (line, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        let path = file(&folder, format!("{good}\n{line}\n").as_bytes());
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("{}{expected}", path.display())), "{line}: {error}");
    }
}

#[test]
fn empty_missing_and_truncated_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    assert!(read(&file(&folder, b"\n \n")).unwrap_err().to_string().ends_with("outcomes.jsonl: has no rows"));
    assert!(read(&folder.path().join("none")).unwrap_err().to_string().starts_with("cannot open"));
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    for at in 0..2_000 {
        serde_json::to_writer(&mut encoder, &row(&at.to_string())).unwrap();
        encoder.write_all(b"\n").unwrap();
    }
    let bytes = encoder.finish().unwrap();
    let path = file(&folder, &bytes[..bytes.len() / 2]);
    let error = read(&path).unwrap_err();
    assert!(error.to_string().ends_with(": cannot read on"), "{error}");
    assert!(error.to_string().contains("outcomes.jsonl:"), "{error}");
}

#[test]
fn a_row_of_ten_megabytes_is_read_and_one_beyond_the_cap_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut long = row("long");
    long.prompt = Some("x".repeat(10 << 20));
    let path = file(&folder, &serde_json::to_vec(&long).unwrap());
    assert_eq!(read(&path).unwrap()[0].prompt.as_ref().unwrap().len(), 10 << 20);
    let path = file(&folder, &vec![b'x'; super::MAX_LINE_BYTES + 2]);
    assert!(read(&path).unwrap_err().to_string().ends_with(":1: the line is longer than 64 MiB"));
}

#[test]
fn a_folder_is_its_finished_files_one_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("requests-2.jsonl", "{\"id\":\"c\",\"prompt\":\"p\"}");
    write("requests-1.jsonl", "{\"id\":\"a\",\"prompt\":\"p\"}\n{\"id\":\"b\",\"prompt\":\"p\"}");
    write(".requests-3.jsonl.part", "{\"id\":");
    write("notes.txt", "no row");
    let ids: Vec<String> = read(folder.path()).unwrap().into_iter().map(|row| row.id).collect();
    assert_eq!(ids, ["a", "b", "c"]);
    let one = folder.path().join("requests-1.jsonl");
    assert_ne!(super::file_sha256(folder.path()).unwrap(), super::file_sha256(&one).unwrap());
}

#[test]
fn reading_stops_at_the_first_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, b"{}\n{}\n");
    let mut reader = Reader::open(&path).unwrap();
    assert!(reader.next().unwrap().is_err());
    assert!(reader.next().is_none());
}

#[test]
fn rows_without_split_are_split_by_group_and_stay_where_they_are() {
    let split = |id: &str, group: Option<&str>| Row { group: group.map(Into::into), ..row(id) }.split();
    assert_eq!(split("a", Some("g")), split("b", Some("g")));
    assert_eq!(Row { split: Some(Split::Test), ..row("a") }.split(), Split::Test);
    let train = (0..1_000).filter(|at| split(&at.to_string(), None) == Split::Train).count();
    assert!((740..860).contains(&train), "{train}");
}

#[test]
fn an_outcome_needs_only_its_expert() {
    let outcome: Outcome = serde_json::from_str(r#"{"expert":"a"}"#).unwrap();
    assert_eq!(outcome, Outcome { expert: "a".into(), ..Outcome::default() });
}

#[test]
fn files_as_windows_writes_them_are_read_or_told() {
    let folder = tempfile::tempdir().unwrap();
    let line = serde_json::to_string(&row("a")).unwrap();
    let marked = file(&folder, format!("\u{feff}{line}\r\n\r\n").as_bytes());
    assert_eq!(read(&marked).unwrap(), [row("a")]);
    let wide: Vec<u8> = [0xfeff].into_iter().chain(line.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let error = read(&file(&folder, &wide)).unwrap_err().to_string();
    assert!(error.ends_with(":1: the file is UTF-16, expected UTF-8"), "{error}");
}

#[test]
fn what_is_wrong_in_a_folder_is_told_by_its_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let line = |id: &str| serde_json::to_string(&row(id)).unwrap();
    fs::write(folder.path().join("1.jsonl"), [line("a"), line("b")].join("\n")).unwrap();
    for (second, problem) in [
        (format!("{}\n{{}}\n", line("c")), "2.jsonl:2: missing field".to_owned()),
        (line("b"), format!("2.jsonl:1: id: `b` is on line 2 of {} already", folder.path().join("1.jsonl").display())),
    ] {
        fs::write(folder.path().join("2.jsonl"), second).unwrap();
        let error = read(folder.path()).unwrap_err().to_string();
        assert!(error.contains(&problem), "{error}");
    }
}
