//! One prediction: draw a version, run it, fall back where it fails, leave a record, copy to shadows.
//!
//! [`answer`] decides who answers; [`run`] runs one version for one request, an [`attempt::Attempt`];
//! [`fallback`], [`shadows`] and [`ensemble`] make further attempts. [`drills`] rehearses faults on copies,
//! or on users' requests where that was confirmed; [`fault`] has the faults.

mod answer;
mod attempt;
mod call;
mod drills;
mod ensemble;
mod fallback;
mod fault;
pub(crate) mod missed;
mod predictor;
pub(crate) mod replay;
mod run;
mod shadows;
mod steps;
mod traces;
mod waiting;

pub(crate) use self::call::{Answer, Call, request_id};
pub(crate) use self::predictor::Predictor;
