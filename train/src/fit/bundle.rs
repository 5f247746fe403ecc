//! What was learnt, made into a bundle: told, exported, run, compared.

use anyhow::Result;
use model::TextRules;
use serde_json::json;

use super::{FitOptions, Fitted};
use crate::{
    data::Data,
    decide::Chooser,
    encoder::Encoder,
    evaluate::{Subject, compare},
    evaluation::Evaluation,
    learn::Learned,
    prices, router,
    score::ScoreField,
    views::Views,
};

/// Rows on which the exported graph is compared with the trainer, at most.
const AGREEMENT_ROWS: usize = 256;

/// All that a bundle tells of its making.
pub(super) struct Job<'a> {
    pub(super) options: &'a FitOptions,
    pub(super) field: &'a ScoreField,
    pub(super) rules: &'a TextRules,
    pub(super) data_sha256: String,
    /// Digest of the bundle that was learnt from.
    pub(super) teacher: Option<String>,
    pub(super) learnt_from: &'a Data,
    pub(super) val: &'a Data,
    pub(super) chooser: &'a Chooser,
    pub(super) placements: std::collections::BTreeMap<String, String>,
}

impl Job<'_> {
    pub(super) fn make(&self, learned: &Learned, encoder: Option<&Encoder>, progress: &(dyn Fn(&str) + Sync)) -> Result<Fitted> {
        let router = &learned.router;
        let views = learned.views(self.val, encoder, progress)?;
        let encoder = learned.encoder.as_ref().or(encoder);
        let evaluation = self.evaluate(learned, &views)?;
        let draft = router.bundle(self.rules, encoder, json!(null), json!(null))?;
        let rows: Vec<usize> = (0..self.val.rows()).take(AGREEMENT_ROWS).collect();
        let texts: Vec<String> = rows.iter().map(|row| self.val.texts[*row].clone()).collect();
        let agreement = router.agreement(&draft, &texts, &views.select(&rows))?;
        progress(&format!(
            "the exported graph agrees with the trainer on {} validation rows: {:.1e} at most",
            agreement.texts, agreement.most
        ));
        let bundle = router.bundle(self.rules, encoder, self.training(learned, &agreement), held_out(&evaluation))?;
        let summary = self.summary(learned, &evaluation);
        Ok(Fitted { bundle, evaluation, summary })
    }

    /// On rows that nothing was learnt from or chosen by (unless asked to learn from them too).
    fn evaluate(&self, learned: &Learned, views: &Views) -> Result<Evaluation> {
        let predictions = learned.predict_views(self.learnt_from, self.val, views);
        let subject = Subject {
            train: self.learnt_from,
            held_out: self.val,
            split: "val",
            predictions: &predictions,
            chooser: self.chooser,
            settings: learned.settings,
            score_field: self.field.to_string(),
            router_kind: learned.router.kind.clone(),
            best_single: Some(learned.best_single),
            placements: self.placements.clone(),
        };
        Ok(compare(&subject)?)
    }

    fn training(&self, learned: &Learned, agreement: &router::Agreement) -> serde_json::Value {
        let parts: Vec<_> = learned
            .router
            .mixture
            .parts
            .iter()
            .map(|(spec, weight, _)| json!({"part": spec.kind.as_str(), "weight": weight, "options": spec.options}))
            .collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "data_sha256": self.data_sha256,
            "rows": self.learnt_from.rows(),
            "distilled": self.teacher.as_ref().map(|bundle| json!({"bundle": bundle, "share": self.options.distil_share})),
            "with_validation": self.options.with_validation,
            "seed": self.options.seed,
            "score_field": self.field.to_string(),
            "loss": learned.router.meaning.loss(),
            "objective": self.options.objective,
            "best_single": self.learnt_from.experts[learned.best_single],
            "parts": parts,
            "cross_validation": {"folds": crate::mix::FOLDS, "candidates": learned.candidates, "chosen": learned.chosen},
            "thrift": learned.thrift,
            "guard": learned.guard,
            "recommended": learned.settings,
            "prices": prices::prices(self.learnt_from),
            "export_agreement": agreement,
        })
    }

    fn summary(&self, learned: &Learned, evaluation: &Evaluation) -> String {
        let chosen = &learned.candidates[learned.chosen];
        let mut lines = vec![format!(
            "chosen: {} (of {} tried), {:.4} out of fold; gain over best single {:+.4} ± {:.4}",
            chosen.name,
            learned.candidates.len(),
            chosen.outcome.score,
            chosen.gain,
            chosen.gain_standard_error
        )];
        let measures = |name: &str, measures: &crate::evaluation::Measures| {
            let cost = measures.cost_per_1k_usd.map_or("unpriced".into(), |cost| format!("{cost:.4} USD per 1,000"));
            format!("  {name:<24} {:.4}  {cost}", measures.score.unwrap_or(f64::NAN))
        };
        let overall = &evaluation.overall;
        lines.push(format!("validation, {} rows:", evaluation.rows));
        lines.push(measures(&format!("best single ({})", self.learnt_from.experts[learned.best_single]), &overall.baselines.best_single));
        lines.push(measures("router, quality", &overall.router.quality));
        lines.push(measures("router, balanced", &overall.router.balanced));
        lines.push(measures("router, cost", &overall.router.cost));
        lines.push(measures("oracle", &overall.baselines.oracle));
        lines.push("served with these settings, where a manifest's policy has no others:".into());
        let settings = learned.settings;
        lines.push(format!("  objective: Balanced, weights: {{cost: \"{}\"}}", decimal(settings.balanced.setting)));
        lines.push(format!("  objective: Cost, qualityTolerance: \"{}\"", decimal(settings.cost.setting)));
        lines.join("\n")
    }
}

/// Four digits that count.
fn decimal(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let digits = (3 - value.abs().log10().floor() as i32).clamp(0, 12) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').into() } else { text }
}

/// The part of an evaluation that a bundle carries.
fn held_out(evaluation: &Evaluation) -> serde_json::Value {
    json!({
        "split": evaluation.split,
        "rows": evaluation.rows,
        "overall": evaluation.overall,
        "named_points": evaluation.named_points,
        "oracle_gap_share": evaluation.oracle_gap_share,
        "gain_over_best_single": evaluation.gain_over_best_single,
    })
}

#[cfg(test)]
mod tests {
    use super::decimal;

    #[test]
    fn settings_are_told_with_four_digits_that_count() {
        for (value, expected) in
            [(0.0, "0"), (12.3456, "12.35"), (0.000123456, "0.0001235"), (0.5, "0.5"), (43211.0, "43211"), (120.0, "120")]
        {
            assert_eq!(decimal(value), expected);
        }
    }
}
