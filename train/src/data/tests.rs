use model::TextRules;

use super::{Data, DataError, Split};
use crate::{outcomes::Row, score::ScoreField};

fn rows(lines: &[&str]) -> Vec<Row> {
    lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn data(lines: &[&str], experts: Option<&[String]>) -> Result<Data, DataError> {
    Data::of(&rows(lines), &ScoreField::default(), experts, &TextRules::default())
}

const GOOD: [&str; 3] = [
    r#"{"id":"1","split":"train","prompt":"p","prompt_tokens":7,"outcomes":[{"expert":"b","score":1,"cost_usd":2},{"expert":"a","score":0,"prompt_tokens":9},{"expert":"c","score":1}]}"#,
    r#"{"id":"2","split":"val","group":"g","prompt":"q","outcomes":[{"expert":"a","score":0.5},{"expert":"d"}]}"#,
    r#"{"id":"3","split":"train","messages":[{"role":"user","content":[{"type":"text","text":"m"}]}],"outcomes":[]}"#,
];

#[test]
fn experts_bind_by_name_and_what_is_missing_is_not_a_number() {
    let data = data(&GOOD, Some(&["a".into(), "b".into()])).unwrap();
    assert_eq!(data.score.row(0).to_vec(), [0.0, 1.0]);
    assert!(data.score[[1, 1]].is_nan() && data.cost[[0, 0]].is_nan() && data.score[[2, 0]].is_nan());
    assert_eq!((data.cost[[0, 1]], data.prompt_tokens.row(0).to_vec()), (2.0, vec![9.0, 7.0]));
    assert_eq!(data.others.dim(), (3, 1), "c was not chosen, d has no score");
    assert_eq!(data.groups, ["id:1", "g", "id:3"]);
    assert_eq!((data.of_split(Split::Val), data.complete()), (vec![1], vec![0]));
    assert_eq!(data.select(&[1, 0]).ids, ["2", "1"]);
    assert_eq!(data.check_for_training(&ScoreField::default()), Ok(()));
}

#[test]
fn what_rows_lack_together_is_said() {
    let unknown = data(&GOOD, Some(&["a".into(), "z".into()])).unwrap_err();
    assert_eq!(unknown.to_string(), "unknown expert z; the file has a, b, c, d");
    let one = data(&GOOD, Some(&["a".into(), "a".into()])).unwrap_err();
    assert_eq!(one.to_string(), "a router chooses between at least two experts; only a was asked for");
    let check = |lines: &[&str], expected: &str| {
        let found = data(lines, None).and_then(|data| data.check_for_training(&ScoreField::default())).unwrap_err().to_string();
        assert!(found.starts_with(expected), "{found}");
    };
    check(&GOOD[2..], "a router chooses between at least two experts with scores; the file has 0");
    check(&GOOD[..1], "no validation rows");
    let same = GOOD[0].replace(r#""score":0"#, r#""score":1"#);
    check(&[&same, GOOD[1]], "the file is one-sided");
    let only_val = GOOD[0].replace("train", "val");
    check(&[&only_val], "no training rows");
    let missing = GOOD[0].replace(r#""expert":"c","score":1"#, r#""expert":"c""#);
    let late = GOOD[1].replace(r#""expert":"d""#, r#""expert":"c","score":1"#);
    check(&[&missing, &late], "c has no `score` in any training row");
}
