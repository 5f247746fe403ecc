//! Which traces are recorded, by OpenTelemetry's usual samplers.

use super::context::{Parent, TraceId};

/// A sampler.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Where the caller has decided, its decision holds.
    pub parent_based: bool,
    /// The share of traces, from 0 to 1, that are recorded where we decide.
    pub ratio: f64,
}

impl Sampling {
    /// By the names of `OTEL_TRACES_SAMPLER`; the ratio is that of those which have one.
    #[must_use]
    pub fn named(name: &str, ratio: f64) -> Option<Self> {
        let (parent_based, ratio) = match name {
            "always_on" => (false, 1.0),
            "always_off" => (false, 0.0),
            "traceidratio" => (false, ratio),
            "parentbased_always_on" => (true, 1.0),
            "parentbased_always_off" => (true, 0.0),
            "parentbased_traceidratio" => (true, ratio),
            _ => return None,
        };
        Some(Self { parent_based, ratio })
    }

    /// The verdict on a request. By the trace's id alone where we decide, so that every process of a trace decides the same.
    #[must_use]
    pub fn samples(&self, parent: Option<&Parent>, trace: TraceId) -> bool {
        match parent {
            Some(parent) if self.parent_based => parent.is_sampled(),
            _ => (trace.low() >> 1) < (self.ratio.clamp(0.0, 1.0) * (1_u64 << 63) as f64) as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_about_that_share_of_traces() {
        let share = |ratio: f64| {
            let sampling = Sampling { parent_based: true, ratio };
            (0..10_000).filter(|_| sampling.samples(None, TraceId::fresh())).count()
        };
        assert_eq!((share(0.0), share(1.0)), (0, 10_000));
        let tenth = share(0.1);
        assert!((800..1200).contains(&tenth), "{tenth}");
        assert!(!Sampling { parent_based: false, ratio: f64::NAN }.samples(None, TraceId::fresh()));
    }

    #[test]
    fn a_callers_decision_holds_for_parent_based_samplers_only() {
        let trace = TraceId::fresh();
        let check = |name: &str, flags: u8, expect: bool| {
            let parent = Parent { trace, span: super::super::context::SpanId::fresh(), flags };
            assert_eq!(Sampling::named(name, 0.0).unwrap().samples(Some(&parent), trace), expect, "{name} {flags}");
        };
        check("parentbased_traceidratio", 1, true);
        check("parentbased_traceidratio", 0, false);
        check("parentbased_always_on", 0, false);
        check("parentbased_always_off", 1, true);
        check("traceidratio", 1, false);
        check("always_on", 0, true);
        check("always_off", 1, false);
        assert_eq!(Sampling::named("jaeger_remote", 1.0), None);
    }
}
