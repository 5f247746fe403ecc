//! Training: how far each RouterModel is, what its evaluation says, and what became of its bundles.

use super::grafana::{Dashboard, Row, Unit, bars, column, lines, number, query, states, table};
use super::scope::Variable;

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "expert-router-training",
        title: "Training",
        description: "Progress, cost, evaluation and promotion of router models, as the operator sees them.",
        variables: &[Variable::Namespace, Variable::Model],
        population: &[
            (Variable::Namespace, "expert_router_operator_training_condition"),
            (Variable::Model, "expert_router_operator_training_condition"),
        ],
        rows: vec![all_trainings(), by_training(), evaluation()],
    }
}

const LABELS: &str = "model_namespace, router_model";
const MODEL: &str = "{{model_namespace}} / {{router_model}}";

fn all_trainings() -> Row {
    Row {
        title: "All trainings",
        panels: vec![
            number(
                Unit::Count,
                "Router models in service",
                "RouterModels whose current spec is trained, evaluated and published.",
                query(
                    "sum(max by (model_namespace, router_model) (expert_router_operator_training_condition{condition=\"Ready\"}))",
                    "ready",
                ),
            )
            .wide(6),
            number(
                Unit::Count,
                "Failed Jobs",
                "Training Jobs that failed since their step last succeeded. From 1 on an alert fires.",
                query("sum(max by (model_namespace, router_model, step) (expert_router_operator_training_failures))", "failed"),
            )
            .wide(6)
            .limits(&[(1.0, "red")]),
            number(
                Unit::Dollars,
                "Spent on answers",
                "What asking the experts has cost so far, of the trainings that are there now.",
                query("sum(max by (model_namespace, router_model) (expert_router_operator_training_spent_usd))", "spent"),
            )
            .wide(6),
            number(
                Unit::Share,
                "Answers had",
                "Answers had of answers wanted, over all trainings.",
                query(
                    "sum(max by (model_namespace, router_model) (expert_router_operator_training_answers{of=\"done\"})) / \
                     sum(max by (model_namespace, router_model) (expert_router_operator_training_answers{of=\"wanted\"}))",
                    "had",
                ),
            )
            .wide(6),
        ],
    }
}

fn by_training() -> Row {
    Row {
        title: "By training",
        panels: vec![
            bars(
                Unit::Share,
                "Answers by training",
                "How far asking and scoring is, by RouterModel.",
                [query(
                    format!(
                        "max by ({LABELS}) (expert_router_operator_training_answers{{of=\"done\"}}) / \
                         max by ({LABELS}) (expert_router_operator_training_answers{{of=\"wanted\"}})"
                    ),
                    MODEL,
                )],
            ),
            lines(
                Unit::Dollars,
                "Spent by training",
                "What asking the experts has cost, by RouterModel.",
                [query(format!("max by ({LABELS}) (expert_router_operator_training_spent_usd)"), MODEL)],
            ),
            lines(
                Unit::State,
                "Conditions",
                "1 while the condition is True: DataPrepared, Trained, Evaluated, Published, Ready.",
                [query(
                    format!("max by ({LABELS}, condition) (expert_router_operator_training_condition)"),
                    "{{router_model}} {{condition}}",
                )],
            ),
            states(
                "Failing",
                "While a step of the training has failed and not succeeded since.",
                [query(
                    format!("max by ({LABELS}, step) (expert_router_operator_training_failures > bool 0)"),
                    "{{router_model}} {{step}}",
                )],
            ),
        ],
    }
}

fn evaluation() -> Row {
    Row {
        title: "Evaluation and promotion",
        panels: vec![
            table(
                "Held-out scores and costs",
                "The last evaluation of each RouterModel: the router at each objective, each expert alone, and the baselines.",
                [
                    column(format!("max by ({LABELS}, subject) (expert_router_operator_training_score)"), "Score", Unit::Score),
                    column(
                        format!("max by ({LABELS}, subject) (expert_router_operator_training_cost_per_1k_usd)"),
                        "Cost of 1,000 queries",
                        Unit::Dollars,
                    ),
                ],
            ),
            lines(
                Unit::Score,
                "Gain of the candidate",
                "Score of the bundle on trial over the best single expert. promotion.requiredGain says what it needs.",
                [query(format!("max by ({LABELS}) (expert_router_operator_training_candidate_gain)"), MODEL)],
            ),
            lines(
                Unit::Score,
                "Scores over time",
                "The same scores as in the table, over time: a retraining that does worse shows as a step down.",
                [query(format!("max by ({LABELS}, subject) (expert_router_operator_training_score)"), "{{router_model}} {{subject}}")],
            ),
        ],
    }
}
