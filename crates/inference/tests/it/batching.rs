//! Requests that run together: the answers are those that each gets alone.

use std::sync::Arc;
use std::time::Instant;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use slipway_inference::{Data, Datatype, Error, Inference, LoadOptions, Model, Priority, Request, Tensor};

use crate::{bytes, environment, fixture, load, request, surviving};

/// One that runs one batch at a time, so that requests gather behind it.
fn single(name: &str, queue_limit: usize) -> Arc<Model> {
    let name = format!("{name}.onnx");
    let options =
        LoadOptions { instances: 1, queue_limit, empty: surviving(&name), ..LoadOptions::default() };
    Arc::new(Model::load(&environment(), &fixture(&name), options).expect("the model loads"))
}

#[derive(Debug, Clone)]
struct Asked {
    rows: usize,
    numbers: Vec<i64>,
    text: Vec<String>,
    start: f32,
}

fn asked() -> impl Strategy<Value = Asked> {
    // Few widths, so that some requests join and some do not.
    (1_usize..5, 0_usize..3, 1_usize..3, -4_i16..4).prop_flat_map(|(rows, width, words, start)| {
        let numbers = proptest::collection::vec(any::<i64>(), rows * width);
        let text = proptest::collection::vec("[a-zäß€ ]{0,6}", rows * words);
        (numbers, text).prop_map(move |(numbers, text)| Asked {
            rows,
            numbers,
            text,
            start: f32::from(start),
        })
    })
}

impl Asked {
    fn inputs(&self) -> Vec<Tensor> {
        let rows = i64::try_from(self.rows).expect("few");
        let width = |elements: usize| i64::try_from(elements / self.rows).expect("few");
        let numbers: Vec<u8> = self.numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let flags: Vec<u8> =
            (0..self.rows).map(|row| u8::from((row + self.text.len()).is_multiple_of(2))).collect();
        // Not in the model's order, which clients need not know.
        vec![
            Tensor::raw("numbers", Datatype::Int64, [rows, width(self.numbers.len())], numbers),
            Tensor::fp32(
                "x",
                [rows, 1],
                &(0..self.rows).map(|row| self.start + row as f32).collect::<Vec<_>>(),
            ),
            Tensor::strings("text", [rows, width(self.text.len())], self.text.clone()),
            Tensor::raw("flags", Datatype::Bool, [rows], flags),
        ]
    }

    /// Each row is answered with what was asked in that row.
    fn check(&self, answer: &Inference) -> Result<(), TestCaseError> {
        let inputs = self.inputs();
        let find =
            |name: &str| answer.outputs.iter().find(|tensor| tensor.name == name).expect("every output");
        for input in inputs.iter().filter(|input| input.name != "x") {
            let output = find(&format!("{}_out", input.name));
            prop_assert_eq!((&input.shape, &input.data), (&output.shape, &output.data), "{}", input.name);
        }
        let burnt = bytes(find("burnt"));
        prop_assert_eq!(burnt.len(), self.rows * 4);
        for (row, value) in burnt.as_chunks::<4>().0.iter().enumerate() {
            let expected = 0.5 * (self.start + row as f32);
            prop_assert!((f32::from_le_bytes(*value) - expected).abs() < 1e-3, "row {row}");
        }
        Ok(())
    }
}

#[test]
fn answers_of_a_batch_are_those_of_each_request_alone() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().unwrap();
    let model = single("slow", 1024);
    assert!(model.is_batchable());
    let mut joined = 0;
    let mut runner = TestRunner::new(ProptestConfig { cases: 40, ..ProptestConfig::default() });
    let many = proptest::collection::vec(asked(), 2..24);
    let outcome = runner.run(&many, |all| {
        let answers = runtime.block_on(async {
            let calls = all.iter().map(|asked| {
                let (model, request) = (Arc::clone(&model), request(asked.inputs()));
                tokio::spawn(async move { model.infer(request).await })
            });
            let mut answers = Vec::new();
            for call in calls.collect::<Vec<_>>() {
                answers.push(call.await.unwrap());
            }
            answers
        });
        for (asked, answer) in all.iter().zip(&answers) {
            let answer = answer.as_ref().map_err(|error| TestCaseError::fail(error.to_string()))?;
            asked.check(answer)?;
            prop_assert!(answer.batch_rows >= asked.rows as u64 && answer.batch_rows <= 32);
        }
        let runs = answers.iter().flatten().filter(|answer| answer.leads).count();
        prop_assert!(runs >= 1 && runs <= all.len());
        Ok(())
    });
    outcome.unwrap();
    // The first takes the only run; those behind it gather.
    runtime.block_on(async {
        let calls: Vec<_> = (0..16)
            .map(|_| {
                let asked = Asked { rows: 1, numbers: vec![1], text: vec!["a".into()], start: 1.0 };
                let (model, request) = (Arc::clone(&model), request(asked.inputs()));
                tokio::spawn(async move { model.infer(request).await.unwrap().batch_rows })
            })
            .collect();
        for call in calls {
            joined = joined.max(call.await.unwrap());
        }
    });
    assert!(joined > 1, "nothing was ever joined");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_request_of_a_batch_is_refused_alone() {
    let model = single("slow_gather", 1024);
    let index =
        |value: i64| request(vec![Tensor::raw("index", Datatype::Int64, [1], value.to_le_bytes().to_vec())]);
    let calls: Vec<_> = (0..12)
        .map(|at| {
            let (model, request) = (Arc::clone(&model), index(if at % 4 == 3 { 9 } else { at % 3 }));
            tokio::spawn(async move { model.infer(request).await })
        })
        .collect();
    for (at, call) in calls.into_iter().enumerate() {
        let answer = call.await.unwrap();
        assert_eq!(answer.is_err(), at % 4 == 3, "request {at}: {:?}", answer.err());
    }
}

#[tokio::test]
async fn rows_that_depend_on_one_another_are_not_joined() {
    for name in ["centred.onnx", "liar.onnx"] {
        assert!(!load(name).unwrap().is_batchable(), "{name}");
    }
    for name in ["linear_minus_one.onnx", "identities.onnx", "logarithm.onnx"] {
        assert!(load(name).unwrap().is_batchable(), "{name}");
    }
    let inputs = vec![Tensor::fp32("x", [3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])];
    // What it really gives, not what it says.
    assert_eq!(load("liar.onnx").unwrap().infer(request(inputs)).await.unwrap().outputs[0].shape, [2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_and_what_nobody_waits_for_is_not_run() {
    let model = single("slow", 4);
    let one = || request(Asked { rows: 1, numbers: vec![1], text: vec!["a".into()], start: 1.0 }.inputs());
    // As many rows as a batch has, so that nothing joins it; it takes long enough for all that follows.
    let many = Asked { rows: 400, numbers: vec![1; 400], text: vec!["a".into(); 400], start: 0.0 };
    let busy = {
        let model = Arc::clone(&model);
        tokio::spawn(async move { model.infer(request(many.inputs())).await })
    };
    while model.running() == 0 {
        tokio::task::yield_now().await;
    }
    let late = Request { deadline: Some(Instant::now()), ..one() };
    let late = {
        let model = Arc::clone(&model);
        tokio::spawn(async move { model.infer(late).await })
    };
    let gone = {
        let model = Arc::clone(&model);
        tokio::spawn(async move { model.infer(one()).await })
    };
    let waiting: Vec<_> = [Priority::Low, Priority::High]
        .map(|priority| {
            let (model, request) = (Arc::clone(&model), Request { priority, ..one() });
            tokio::spawn(async move { model.infer(request).await })
        })
        .into();
    while model.waiting() < 4 {
        tokio::task::yield_now().await;
    }
    assert_eq!(model.infer(one()).await.unwrap_err(), Error::Overloaded { limit: 4 });
    gone.abort();
    assert!(busy.await.unwrap().is_ok());
    assert!(matches!(late.await.unwrap(), Err(Error::Expired { .. })));
    for call in waiting {
        assert!(call.await.unwrap().is_ok());
    }
    let dropped = model.dropped();
    assert_eq!((dropped.cancelled, dropped.expired, dropped.rejected), (1, 1, 1));
}

#[tokio::test]
async fn what_is_no_number_comes_out_as_it_is() {
    let answer = load("logarithm.onnx")
        .unwrap()
        .infer(request(vec![Tensor::fp32("x", [1, 2], &[-1.0, 0.0])]))
        .await
        .unwrap();
    let Data::Raw(raw) = &answer.outputs[0].data else { unreachable!("numbers") };
    let values: Vec<f32> = raw.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect();
    assert!(values[0].is_nan() && values[1] == f32::NEG_INFINITY);
}
