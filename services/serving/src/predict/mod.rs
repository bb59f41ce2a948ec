//! One prediction: draw a version, run it, fall back where it fails, leave a record, copy to shadows.
//!
//! [`answer`] decides who answers; [`run`] runs one version for one request, an [`attempt::Attempt`];
//! [`fallback`], [`shadows`] and [`ensemble`] make further attempts.

mod answer;
mod attempt;
mod call;
mod ensemble;
mod fallback;
pub(crate) mod missed;
mod predictor;
mod run;
mod shadows;
mod steps;
mod traces;
mod waiting;

pub(crate) use self::call::{Answer, Call, request_id};
pub(crate) use self::predictor::Predictor;
