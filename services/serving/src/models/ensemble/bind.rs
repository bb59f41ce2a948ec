//! Whether the models of an ensemble fit together, and what it takes and gives as a whole. Pure.

use std::collections::{BTreeMap, HashMap};

use slipway_domain::ensemble::{Declared, Definition, Step};
use slipway_inference::{Signature, TensorSpec};

/// Ensembles within ensembles.
pub(crate) const MAX_DEPTH: usize = 8;

/// Models that one request may call, those of ensembles within included.
const MAX_CALLS: usize = 256;

/// What is known of the model of a step.
pub(crate) enum Bound<'model> {
    /// A model that is loaded, or can be.
    Model(&'model Signature),
    /// An ensemble, whose models have to fit in their turn.
    Ensemble(&'model Definition),
    /// It is loading.
    Loading,
    /// It is not here, and may come: what is not.
    Missing(String),
    /// It does not load: why.
    Broken(String),
}

/// Why an ensemble cannot be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unbound {
    /// Names the step.
    pub reason: String,
    /// What it is for.
    pub cause: Cause,
}

/// What keeps an ensemble from being served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A model is still loading.
    Loading,
    /// A model is not here; the ensemble waits until it comes.
    Missing,
    /// It does not fit, or a model of it does not load.
    Unfit,
}

/// The models that steps name.
pub(crate) trait Models {
    /// What is known of a deployment, or of a version of it.
    fn find(&self, model: &str, version: Option<&str>) -> Bound<'_>;
}

/// What the ensemble `name` takes and gives.
///
/// # Errors
/// A model is missing or loading, or does not fit; or one request would call too many.
pub(crate) fn bind(name: &str, definition: &Definition, models: &impl Models) -> Result<Signature, Unbound> {
    let mut binder = Binder { models, path: vec![name.to_owned()], known: HashMap::new() };
    binder.bind(definition).map(|inner| inner.signature)
}

/// One walk through an ensemble and those within it.
struct Binder<'models, M> {
    models: &'models M,
    /// The ensembles above, outermost first.
    path: Vec<String>,
    /// Ensembles that fit, by deployment and version: each is looked at once, however often it is called.
    known: HashMap<(String, Option<String>), Inner>,
}

/// An ensemble that fits.
#[derive(Clone)]
struct Inner {
    signature: Signature,
    /// Models that one request calls.
    calls: usize,
}

impl<M: Models> Binder<'_, M> {
    fn bind(&mut self, definition: &Definition) -> Result<Inner, Unbound> {
        let mut steps = Vec::with_capacity(definition.steps.len());
        let mut calls = 0;
        let mut waits = None;
        for (at, step) in definition.steps.iter().enumerate() {
            let inner = match self.step(&definition.step(at), step) {
                Ok(inner) => inner,
                // The steps that are known may not fit, whatever comes.
                Err(unbound) if unbound.cause != Cause::Unfit => {
                    waits.get_or_insert(unbound);
                    steps.push(None);
                    continue;
                }
                Err(unfit) => return Err(unfit),
            };
            calls += inner.calls;
            if calls > MAX_CALLS {
                let reason = format!(
                    "{} is one too many: a request would call over {MAX_CALLS} models",
                    definition.step(at)
                );
                return Err(Unbound { reason, cause: Cause::Unfit });
            }
            steps.push(Some(inner.signature));
        }
        let signature = joined(definition, &steps)?;
        waits.map_or(Ok(Inner { signature, calls }), Err)
    }

    fn step(&mut self, named: &str, step: &Step) -> Result<Inner, Unbound> {
        let unfit = |reason: String| Unbound { reason: format!("{named} {reason}"), cause: Cause::Unfit };
        let models = self.models;
        let inner = match models.find(&step.model, step.version.as_deref()) {
            Bound::Model(signature) => Inner { signature: signature.clone(), calls: 1 },
            Bound::Ensemble(_) if self.path.contains(&step.model) => {
                return Err(unfit(format!("calls itself: {} → {}", self.path.join(" → "), step.model)));
            }
            Bound::Ensemble(_) if self.path.len() >= MAX_DEPTH => {
                return Err(unfit(format!("is over {MAX_DEPTH} ensembles deep")));
            }
            Bound::Ensemble(definition) => {
                let key = (step.model.clone(), step.version.clone());
                match self.known.get(&key) {
                    Some(inner) => inner.clone(),
                    None => {
                        self.path.push(step.model.clone());
                        let bound = self.bind(definition);
                        self.path.pop();
                        let inner = bound.map_err(|unbound| Unbound {
                            reason: format!("{named}: {}", unbound.reason),
                            ..unbound
                        })?;
                        self.known.insert(key, inner.clone());
                        inner
                    }
                }
            }
            Bound::Loading => {
                return Err(Unbound { reason: format!("{named} is loading"), cause: Cause::Loading });
            }
            Bound::Missing(why) => {
                return Err(Unbound {
                    reason: format!("{named} cannot be called: {why}"),
                    cause: Cause::Missing,
                });
            }
            Bound::Broken(why) => return Err(unfit(format!("cannot be called: {why}"))),
        };
        check_names(step, &inner.signature).map_err(unfit)?;
        Ok(inner)
    }
}

/// The steps whose signatures are known, with their places.
fn known_steps<'steps>(
    definition: &'steps Definition,
    signatures: &'steps [Option<Signature>],
) -> impl Iterator<Item = (usize, &'steps Step, &'steps Signature)> {
    let steps = definition.steps.iter().zip(signatures).enumerate();
    steps.filter_map(|(at, (step, signature))| Some((at, step, signature.as_ref()?)))
}

/// What an ensemble takes and gives whose steps have these signatures; without what only unknown ones would
/// say.
fn joined(definition: &Definition, signatures: &[Option<Signature>]) -> Result<Signature, Unbound> {
    let mut tensors: BTreeMap<&str, TensorSpec> = BTreeMap::new();
    for (_, step, signature) in known_steps(definition, signatures) {
        for (output, tensor) in &step.outputs {
            if let Some(spec) = signature.outputs.iter().find(|spec| spec.name == *output) {
                tensors.insert(tensor, TensorSpec { name: tensor.clone(), ..spec.clone() });
            }
        }
    }
    let mut inputs = Vec::with_capacity(definition.inputs.len());
    for input in &definition.inputs {
        if let Some(spec) = input_spec(input, definition, signatures)? {
            tensors.insert(&input.name, spec.clone());
            inputs.push(spec);
        }
    }
    for (at, step, signature) in known_steps(definition, signatures) {
        for (input, tensor) in &step.inputs {
            let taken = signature.input(input);
            let (Some(taken), Some(given)) = (taken, tensors.get(tensor.as_str())) else { continue };
            unified(given, taken).ok_or_else(|| Unbound {
                reason: format!(
                    "{} takes '{tensor}' as its input '{input}' of {} {:?}, but it is {} {:?}",
                    definition.step(at),
                    taken.datatype,
                    taken.shape,
                    given.datatype,
                    given.shape
                ),
                cause: Cause::Unfit,
            })?;
        }
    }
    let outputs = definition.outputs.iter().filter_map(|output| {
        let given = tensors.get(output.name.as_str())?;
        Some(declared(output, given, "output", "the step that gives it"))
    });
    Ok(Signature { inputs, outputs: outputs.collect::<Result<_, _>>()?, ..Signature::default() })
}

/// Every input of the model is given, and nothing is named that it does not have.
fn check_names(step: &Step, signature: &Signature) -> Result<(), String> {
    let names = |specs: &[TensorSpec]| {
        let quoted: Vec<String> = specs.iter().map(|spec| format!("'{}'", spec.name)).collect();
        quoted.join(", ")
    };
    let inputs = [&signature.inputs[..], &signature.optional].concat();
    for (given, specs, side) in
        [(&step.inputs, &inputs, "input"), (&step.outputs, &signature.outputs, "output")]
    {
        if let Some(unknown) = given.keys().find(|name| !specs.iter().any(|spec| spec.name == **name)) {
            return Err(format!("has no {side} '{unknown}'; its {side}s are {}", names(specs)));
        }
    }
    match signature.inputs.iter().find(|spec| !step.inputs.contains_key(&spec.name)) {
        Some(missing) => Err(format!("is not given its input '{}'", missing.name)),
        None => Ok(()),
    }
}

/// An input of the ensemble: what every step that takes it can take. `None` where no such step is known.
fn input_spec(
    input: &Declared,
    definition: &Definition,
    signatures: &[Option<Signature>],
) -> Result<Option<TensorSpec>, Unbound> {
    let mut known: Option<TensorSpec> = None;
    for (at, step, signature) in known_steps(definition, signatures) {
        let taken = step.inputs.iter().filter(|(_, tensor)| **tensor == input.name);
        for spec in taken.filter_map(|(name, _)| signature.input(name)) {
            let spec = TensorSpec { name: input.name.clone(), ..spec.clone() };
            let Some(before) = &known else {
                known = Some(spec);
                continue;
            };
            known = Some(unified(before, &spec).ok_or_else(|| Unbound {
                reason: format!(
                    "{} takes the input '{}' as {} {:?}, a step before it as {} {:?}",
                    definition.step(at),
                    input.name,
                    spec.datatype,
                    spec.shape,
                    before.datatype,
                    before.shape
                ),
                cause: Cause::Unfit,
            })?);
        }
    }
    known.map(|known| declared(input, &known, "input", "the steps that take it")).transpose()
}

/// What a declaration and the models say together.
fn declared(given: &Declared, known: &TensorSpec, side: &str, who: &str) -> Result<TensorSpec, Unbound> {
    let said = TensorSpec {
        name: given.name.clone(),
        datatype: given.datatype.unwrap_or(known.datatype),
        shape: given.shape.clone().unwrap_or_else(|| known.shape.clone()),
    };
    unified(&said, known).ok_or_else(|| Unbound {
        reason: format!(
            "the {side} '{}' is declared as {} {:?}; {who} have {} {:?}",
            given.name, said.datatype, said.shape, known.datatype, known.shape
        ),
        cause: Cause::Unfit,
    })
}

/// The tensors that are both; `None` where there are none. An empty shape says nothing, as with a scalar.
fn unified(left: &TensorSpec, right: &TensorSpec) -> Option<TensorSpec> {
    if left.datatype != right.datatype {
        return None;
    }
    let shape = if left.shape.is_empty() {
        right.shape.clone()
    } else if right.shape.is_empty() {
        left.shape.clone()
    } else if left.shape.len() == right.shape.len() {
        let both = left.shape.iter().zip(&right.shape).map(|pair| match pair {
            (left, right) if left == right => Some(*left),
            (-1, fixed) | (fixed, -1) => Some(*fixed),
            _ => None,
        });
        both.collect::<Option<_>>()?
    } else {
        return None;
    };
    Some(TensorSpec { name: left.name.clone(), datatype: left.datatype, shape })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use slipway_inference::Datatype;

    use super::super::definitions::definition;
    use super::*;

    #[derive(Default)]
    struct Known {
        models: HashMap<&'static str, Signature>,
        ensembles: HashMap<&'static str, Definition>,
    }

    impl Models for Known {
        fn find(&self, model: &str, _version: Option<&str>) -> Bound<'_> {
            match (self.models.get(model), self.ensembles.get(model)) {
                (Some(signature), _) => Bound::Model(signature),
                (None, Some(ensemble)) => Bound::Ensemble(ensemble),
                _ if model == "slow" => Bound::Loading,
                _ => Bound::Missing(format!("there is no model '{model}'")),
            }
        }
    }

    fn spec(name: &str, datatype: Datatype, shape: &[i64]) -> TensorSpec {
        TensorSpec { name: name.into(), datatype, shape: shape.to_vec() }
    }

    fn known() -> Known {
        use Datatype::{Fp32, Int64};
        let model = |inputs: &[TensorSpec], outputs: &[TensorSpec]| Signature {
            inputs: inputs.to_vec(),
            outputs: outputs.to_vec(),
            ..Signature::default()
        };
        let models = HashMap::from([
            ("score", model(&[spec("x", Fp32, &[-1, 2])], &[spec("score", Fp32, &[-1, 1])])),
            (
                "join",
                model(
                    &[spec("left", Fp32, &[-1, 1]), spec("right", Fp32, &[-1, 1])],
                    &[spec("sum", Fp32, &[-1, 1])],
                ),
            ),
            ("label", model(&[spec("in", Int64, &[-1])], &[spec("out", Int64, &[-1])])),
            ("wide", model(&[spec("in", Fp32, &[-1, 4])], &[spec("out", Fp32, &[-1, 4])])),
        ]);
        Known { models, ensembles: HashMap::new() }
    }

    fn refused(steps: &[(&str, &str, &str)], outputs: &[&str]) -> Unbound {
        bind("all", &definition(&["x"], steps, outputs), &known()).unwrap_err()
    }

    #[test]
    fn an_ensemble_takes_and_gives_what_its_models_do() {
        let steps = [
            ("score", "x=x", "score=a"),
            ("score", "x=x", "score=b"),
            ("join", "left=a right=b", "sum=total"),
        ];
        let signature = bind("all", &definition(&["x"], &steps, &["total", "a"]), &known()).unwrap();
        assert_eq!(signature.inputs, [spec("x", Datatype::Fp32, &[-1, 2])]);
        assert_eq!(signature.outputs.len(), 2);
        assert_eq!(signature.outputs[0], spec("total", Datatype::Fp32, &[-1, 1]));

        let mut narrow = definition(&["x"], &steps, &["total"]);
        narrow.inputs[0].shape = Some(vec![1, -1]);
        let signature = bind("all", &narrow, &known()).unwrap();
        assert_eq!(signature.inputs[0].shape, [1, 2]);
        narrow.inputs[0].datatype = Some(Datatype::Fp64);
        let refused = bind("all", &narrow, &known()).unwrap_err().reason;
        assert_eq!(
            refused,
            "the input 'x' is declared as FP64 [1, -1]; the steps that take it have FP32 [-1, 2]"
        );
    }

    #[test]
    fn what_does_not_fit_names_the_step() {
        let reason = |steps: &[(&str, &str, &str)]| refused(steps, &["y"]).reason;
        assert_eq!(
            reason(&[("score", "x=x", "score=a"), ("label", "in=a", "out=y")]),
            "step 2 ('label') takes 'a' as its input 'in' of INT64 [-1], but it is FP32 [-1, 1]"
        );
        assert_eq!(
            reason(&[("score", "x=x", "score=a"), ("wide", "in=a", "out=y")]),
            "step 2 ('wide') takes 'a' as its input 'in' of FP32 [-1, 4], but it is FP32 [-1, 1]"
        );
        assert_eq!(
            reason(&[("score", "x=x", "score=a"), ("wide", "in=x", "out=y")]),
            "step 2 ('wide') takes the input 'x' as FP32 [-1, 4], a step before it as FP32 [-1, 2]"
        );
        assert_eq!(reason(&[("join", "left=x", "sum=y")]), "step 1 ('join') is not given its input 'right'");
        assert_eq!(
            reason(&[("score", "x=x", "scores=y")]),
            "step 1 ('score') has no output 'scores'; its outputs are 'score'"
        );
        assert_eq!(
            reason(&[("nobody", "x=x", "o=y")]),
            "step 1 ('nobody') cannot be called: there is no model 'nobody'"
        );
        // What does not fit does not wait for what is not here.
        assert_eq!(
            reason(&[("nobody", "x=x", "o=y"), ("score", "x=x", "score=a"), ("label", "in=a", "out=b")]),
            "step 3 ('label') takes 'a' as its input 'in' of INT64 [-1], but it is FP32 [-1, 1]"
        );
        let missing = refused(&[("nobody", "x=x", "o=a"), ("label", "in=a", "out=y")], &["y"]);
        assert_eq!(missing.cause, Cause::Missing);
        let waiting = refused(&[("slow", "x=x", "o=y")], &["y"]);
        assert_eq!(waiting, Unbound { reason: "step 1 ('slow') is loading".into(), cause: Cause::Loading });
    }

    #[test]
    fn what_one_request_calls_is_bounded_and_so_is_the_time_to_know_it() {
        let mut models = known();
        let one = definition(&["in"], &[("score", "x=in", "score=out")], &["out"]);
        models.ensembles.insert("0", one);
        // Each calls the one before as often as it may: looked at one by one, the last would take years.
        for (name, before) in [("1", "0"), ("2", "1"), ("3", "2"), ("4", "3"), ("5", "4"), ("6", "5")] {
            let outputs: Vec<String> = (0..64).map(|at| format!("out=y{at}")).collect();
            let steps: Vec<_> = outputs.iter().map(|output| (before, "in=in", output.as_str())).collect();
            let mut wide = definition(&["in"], &steps, &["out"]);
            wide.steps[0].outputs = [("out".to_owned(), "out".to_owned())].into();
            models.ensembles.insert(name, wide);
        }
        let call = |name| definition(&["in"], &[(name, "in=in", "out=out")], &["out"]);
        assert!(bind("all", &call("1"), &models).is_ok());
        let refused = bind("all", &call("6"), &models).unwrap_err().reason;
        assert!(
            refused.ends_with("step 5 ('1') is one too many: a request would call over 256 models"),
            "{refused}"
        );
    }

    #[test]
    fn ensembles_call_others_and_never_themselves() {
        let mut models = known();
        models.ensembles.insert("inner", definition(&["in"], &[("score", "x=in", "score=out")], &["out"]));
        let outer = definition(&["x"], &[("inner", "in=x", "out=y")], &["y"]);
        let signature = bind("outer", &outer, &models).unwrap();
        assert_eq!(signature.inputs, [spec("x", Datatype::Fp32, &[-1, 2])]);

        models.ensembles.insert("inner", definition(&["in"], &[("outer", "x=in", "y=out")], &["out"]));
        models.ensembles.insert("outer", outer.clone());
        let refused = bind("outer", &outer, &models).unwrap_err().reason;
        assert_eq!(refused, "step 1 ('inner'): step 1 ('outer') calls itself: outer → inner → outer");
    }
}
