//! Namespaces under PodSecurity `restricted`, and the chart.
