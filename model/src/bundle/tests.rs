//! Bundles written and read back; bundles damaged, forged and cut.

use std::fs;

use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::io::Write;

use super::*;
use crate::{
    lexical::HashRules,
    testing::{lexical_bundle, manifest, token_bundle, token_inputs, tokenizer},
};

/// The files of a bundle as a tar has them, to be damaged.
fn files_of(bundle: &Bundle) -> Vec<(String, Vec<u8>)> {
    let folder = tempfile::tempdir().unwrap();
    bundle.write(&folder.path().join("b")).unwrap();
    let names = [GRAPH, TOKENIZER, LEXICAL_ROWS, MANIFEST];
    names.iter().filter_map(|name| Some(((*name).to_owned(), fs::read(folder.path().join("b").join(name)).ok()?))).collect()
}

fn tar_of(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        entry(&mut builder, name, bytes, tar::EntryType::Regular);
    }
    builder.into_inner().unwrap()
}

/// An entry under any name, also one that a well-meaning library would refuse to write.
fn entry(builder: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8], kind: tar::EntryType) {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    builder.append(&header, bytes).unwrap();
}

fn renamed(files: &[(String, Vec<u8>)], rename: impl Fn(&str) -> String) -> Vec<(String, Vec<u8>)> {
    files.iter().map(|(name, bytes)| (rename(name), bytes.clone())).collect()
}

/// Refused, in words that have this part.
fn refused(tar: &[u8], part: &str) {
    let error = Bundle::read_tar(tar).map(|_| ()).unwrap_err();
    let text = format!("{error}: {}", std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default());
    assert!(text.contains(part), "{text:?} does not say {part:?}");
}

fn same(read: &Bundle, written: &Bundle) {
    assert_eq!(read.manifest, written.manifest);
    assert_eq!((&read.graph, &read.tokenizer, &read.digest), (&written.graph, &written.tokenizer, &written.digest));
}

#[test]
fn a_bundle_comes_back_from_a_folder_a_tar_and_a_gzipped_tar() {
    let folder = tempfile::tempdir().unwrap();
    for bundle in [token_bundle(), lexical_bundle(vec![3, 40, 255])] {
        for name in ["folder", "b.tar", "b.tar.gz", "b.tgz"] {
            let path = folder.path().join(name);
            if name == "folder" { bundle.write(&path) } else { bundle.write_tar(&path) }.unwrap();
            same(&Bundle::read(&path).unwrap(), &bundle);
        }
        let gzipped = fs::read(folder.path().join("b.tgz")).unwrap();
        assert_eq!(gzipped[..2], [0x1f, 0x8b]);
        same(&Bundle::read_tar(gzipped.as_slice()).unwrap(), &bundle);
    }
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 4, "nothing half-written stays: {left:?}");
}

#[test]
fn the_same_bundle_gives_the_same_bytes_and_a_changed_one_another_digest() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = |bundle: &Bundle, name: &str| {
        bundle.write_tar(&folder.path().join(name)).unwrap();
        fs::read(folder.path().join(name)).unwrap()
    };
    assert_eq!(bytes(&token_bundle(), "a.tar.gz"), bytes(&token_bundle(), "b.tar.gz"));
    let mut changed = token_bundle().manifest;
    changed.experts[0].mean_seconds = Some(2.25);
    let changed = Bundle::assemble(changed, token_bundle().graph, Some(tokenizer())).unwrap();
    assert_ne!(changed.digest, token_bundle().digest);
}

#[test]
fn chosen_rows_are_a_file_of_their_own_and_come_back_where_they_belong() {
    let files = files_of(&lexical_bundle(vec![3, 40, 255]));
    let (_, rows) = files.iter().find(|(name, _)| name == LEXICAL_ROWS).unwrap();
    assert_eq!(*rows, [3_u32, 40, 255].map(u32::to_le_bytes).concat());
    let (_, json) = files.iter().find(|(name, _)| name == MANIFEST).unwrap();
    assert!(!String::from_utf8_lossy(json).contains("\"rows\""), "rows stand in bundle.json too");
    let read = Bundle::read_tar(tar_of(&files).as_slice()).unwrap();
    assert!(matches!(&read.manifest.inputs[0], Input::LexicalIds { hash: HashRules { rows, .. }, .. } if *rows == [3, 40, 255]));
}

#[test]
fn a_file_that_is_not_the_one_meant_is_named() {
    let files = files_of(&token_bundle());
    for index in 0..2 {
        let mut other = files.clone();
        let middle = other[index].1.len() / 2;
        other[index].1[middle] ^= 1;
        refused(&tar_of(&other), &format!("{}: expected SHA-256", other[index].0));
    }
    let without = |name: &str| files.iter().filter(|(other, _)| other != name).cloned().collect::<Vec<_>>();
    refused(&tar_of(&without(GRAPH)), "router.onnx: named in bundle.json, but the bundle has no such file");
    refused(&tar_of(&without(MANIFEST)), "bundle.json: the bundle has no such file");
    let stray = [files.clone(), vec![(LEXICAL_ROWS.to_owned(), vec![0; 4])]].concat();
    refused(&tar_of(&stray), "lexical_rows.bin: its hash is not in bundle.json");
}

#[test]
fn files_may_lie_in_one_folder_beside_other_files_and_nowhere_else() {
    let files = files_of(&token_bundle());
    let reads = |files: &[(String, Vec<u8>)]| same(&Bundle::read_tar(tar_of(files).as_slice()).unwrap(), &token_bundle());
    reads(&renamed(&files, |name| format!("./{name}")));
    reads(&renamed(&files, |name| format!("router/{name}")));
    reads(&[files.clone(), vec![("README.md".into(), b"hello".to_vec())]].concat());
    refused(&tar_of(&renamed(&files, |name| format!("../{name}"))), "leads out of the bundle");
    refused(&tar_of(&renamed(&files, |name| format!("/etc/{name}"))), "leads out of the bundle");
    refused(&tar_of(&renamed(&files, |name| format!("a/../../{name}"))), "leads out of the bundle");
    refused(&tar_of(&renamed(&files, |name| format!("a/b/{name}"))), "deeper than one folder");
    refused(&tar_of(&renamed(&files, |name| if name == GRAPH { format!("a/{name}") } else { name.to_owned() })), "several folders");
    refused(&tar_of(&[files.clone(), vec![files[0].clone()]].concat()), "twice");
}

#[test]
fn links_and_devices_are_refused() {
    for kind in [tar::EntryType::Symlink, tar::EntryType::Link, tar::EntryType::Char, tar::EntryType::Fifo] {
        let mut builder = tar::Builder::new(Vec::new());
        entry(&mut builder, MANIFEST, b"", kind);
        refused(&builder.into_inner().unwrap(), "neither a file nor a folder");
    }
    let mut builder = tar::Builder::new(Vec::new());
    entry(&mut builder, "././@LongLink", b"bundle.json\0", tar::EntryType::GNULongName);
    refused(&builder.into_inner().unwrap(), "a name longer than");
}

#[test]
fn a_tar_cut_anywhere_is_refused_or_whole() {
    let whole = tar_of(&files_of(&token_bundle()));
    let mut refusals = 0;
    for cut in (0..whole.len()).step_by(97) {
        match Bundle::read_tar(&whole[..cut]) {
            // All that is cut is the blocks of zeros that end a tar.
            Ok(read) => same(&read, &token_bundle()),
            Err(_) => refusals += 1,
        }
    }
    assert!(refusals * 97 > whole.len() / 2, "{refusals}");
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&whole).unwrap();
    let gzip = gzip.finish().unwrap();
    for cut in (0..gzip.len() - 8).step_by(31) {
        assert!(Bundle::read_tar(&gzip[..cut]).is_err(), "{cut} of {}", gzip.len());
    }
}

#[test]
fn a_length_in_a_header_is_not_believed() {
    let mut header = tar::Header::new_ustar();
    header.set_path(GRAPH).unwrap();
    header.set_size(1 << 40);
    header.set_cksum();
    // Were memory set aside for it, this would end the process.
    refused(&[header.as_bytes().as_slice(), &[7; 512]].concat(), "bundle");
}

#[test]
fn a_tar_of_too_many_files_is_refused() {
    let files: Vec<_> = (0..1001).map(|number| (format!("file-{number}"), Vec::new())).collect();
    refused(&tar_of(&files), "more than 1000 entries");
}

#[test]
fn what_is_no_bundle_says_so() {
    refused(b"", "no bundle");
    refused(&[0; 2048], "no bundle");
    refused(b"{\"format_version\": 1}", "cannot read");
    let missing = Bundle::read(Path::new("/nowhere/at/all")).unwrap_err();
    assert!(missing.to_string().contains("/nowhere/at/all"), "{missing}");
    let empty = tempfile::tempdir().unwrap();
    assert!(Bundle::read(empty.path()).unwrap_err().to_string().contains("bundle.json"));
}

#[test]
fn only_a_bundle_or_nothing_is_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("deep").join("router");
    lexical_bundle(vec![1]).write(&target).unwrap();
    token_bundle().write(&target).unwrap();
    same(&Bundle::read(&target).unwrap(), &token_bundle());
    assert!(!target.join(LEXICAL_ROWS).exists(), "a file of the bundle before stays");
    let home = folder.path().join("home");
    fs::create_dir(&home).unwrap();
    fs::write(home.join("letters.txt"), "dear").unwrap();
    let error = token_bundle().write(&home).unwrap_err().to_string();
    assert!(error.contains("left as it is"), "{error}");
    assert_eq!(fs::read_dir(&home).unwrap().count(), 1);
    let error = token_bundle().write(&home.join("letters.txt")).unwrap_err().to_string();
    assert!(error.contains("a bundle is a folder"), "{error}");
    token_bundle().write(Path::new("/")).unwrap_err();
}

/// One thing wrong in a manifest that is sound otherwise: the error names it.
fn wrong(edit: impl FnOnce(&mut Manifest), part: &str) {
    let mut manifest = token_bundle().manifest;
    edit(&mut manifest);
    let error = Bundle::assemble(manifest, token_bundle().graph, Some(tokenizer())).unwrap_err().to_string();
    assert!(error.contains(part), "{error:?} does not say {part:?}");
}

#[test]
fn what_does_not_fit_together_in_a_manifest_is_named() {
    wrong(|m| m.experts.clear(), "experts: from 1 to 1024");
    wrong(|m| m.experts[1].name = "coder".into(), "experts[1].name: \"coder\" is there twice");
    wrong(|m| m.experts[1].name = " ".into(), "experts[1].name: empty");
    wrong(|m| m.experts[0].mean_score = Some(f64::NAN), "experts[0].mean_score");
    wrong(|m| m.experts[0].mean_seconds = Some(-1.0), "experts[0].mean_seconds");
    wrong(|m| m.output = Output::LogProbs { temperature: 0.0 }, "output.temperature");
    wrong(|m| m.text.max_chars = 0, "text:");
    wrong(|m| m.encoder = Some(Encoder { name: "e".into(), sha256: "12".into(), dimensions: 4 }), "encoder.sha256");
    wrong(|m| m.router = String::new(), "router: empty");
    wrong(|m| m.inputs.clear(), "inputs: the graph reads nothing");
    wrong(|m| m.inputs.push(Input::AttentionMask { name: "again".into() }), "attention_mask is there twice");
    wrong(|m| m.inputs = vec![Input::AttentionMask { name: "mask".into() }], "attention_mask without input_ids");
    wrong(|m| m.inputs = token_inputs(3), "input_ids: max_tokens 3");
    wrong(|m| m.inputs.push(Input::Surface { name: "surface".into(), version: 999 }), "surface: version 999");
    wrong(|m| m.inputs.push(Input::Surface { name: "input_ids".into(), version: 1 }), "is there twice");
    let without = Bundle::assemble(manifest(token_inputs(16), Output::Scores), vec![1], None).unwrap_err().to_string();
    assert!(without.contains("tokenizer.json"), "{without}");
    let empty = Bundle::assemble(manifest(token_inputs(16), Output::Scores), Vec::new(), Some(tokenizer())).unwrap_err().to_string();
    assert!(empty.contains("router.onnx: empty"), "{empty}");
}

#[test]
fn another_format_is_told_before_anything_else() {
    let files = vec![(MANIFEST.to_owned(), json!({"format_version": 2, "all": "is new"}).to_string().into_bytes())];
    refused(&tar_of(&files), "format version 2 is not 1");
    refused(&tar_of(&[(MANIFEST.to_owned(), b"[]".to_vec())]), "bundle.json");
}

#[test]
fn addresses_are_paths_or_file_urls() {
    let check = |address: &str, expect: Option<&str>| {
        assert_eq!(local_path(address).ok().as_deref(), expect.map(Path::new), "{address}");
    };
    check("models/router", Some("models/router"));
    check("file:///models/router.tar.gz", Some("/models/router.tar.gz"));
    check("file://localhost/models/router", Some("/models/router"));
    check("file://models/router", None);
    check("s3://bucket/router", None);
    check("", None);
}

/// Every place in a JSON document, as the way there.
fn places(value: &Value, here: &str, into: &mut Vec<String>) {
    into.push(here.to_owned());
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, child)| places(child, &format!("{here}/{name}"), into)),
        Value::Array(items) => items.iter().enumerate().for_each(|(index, child)| places(child, &format!("{here}/{index}"), into)),
        _ => {}
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        Just(json!(1e308)),
        ".{0,12}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!([{"kind": "input_ids"}])),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000), gzip in any::<bool>()) {
        let bytes = if gzip { [&[0x1f, 0x8b, 8, 0][..], &bytes].concat() } else { bytes };
        let _ = Bundle::read_tar(bytes.as_slice());
    }

    #[test]
    fn a_damaged_tar_never_panics_and_never_passes_for_another_bundle(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let whole = tar_of(&files_of(&token_bundle()));
        let mut damaged = whole.clone();
        for (at, byte) in flips {
            damaged[at.index(whole.len())] = byte;
        }
        // Bytes that no file is made of (modes, times, padding) may differ; `bundle.json` itself has nobody to vouch for it but the digest.
        if let Ok(read) = Bundle::read_tar(damaged.as_slice()) {
            prop_assert!(read.graph == token_bundle().graph || read.digest != token_bundle().digest);
        }
    }

    #[test]
    fn no_wrong_value_anywhere_in_the_manifest_panics(place in any::<prop::sample::Index>(), value in any_json()) {
        let mut files = files_of(&token_bundle());
        let json = &mut files.last_mut().unwrap().1;
        let mut document: Value = serde_json::from_slice(json).unwrap();
        let mut all = Vec::new();
        places(&document, "", &mut all);
        *document.pointer_mut(&all[place.index(all.len())]).unwrap() = value;
        *json = document.to_string().into_bytes();
        // What passes is a bundle that can be written again.
        if let Ok(read) = Bundle::read_tar(tar_of(&files).as_slice()) {
            Bundle::assemble(read.manifest, read.graph, read.tokenizer).unwrap();
        }
    }
}
