//! Namespaces under PodSecurity `restricted`, and the chart.

/// The label selector of Pods that belong to the run.
pub(crate) const OURS: &str = "";
