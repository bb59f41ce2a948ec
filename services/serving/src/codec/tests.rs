//! Requests and answers as clients write and read them.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use slipway_inference::{Data, Datatype, Signature, Tensor, TensorSpec};

use super::parse::parse_elements;
use super::*;
use crate::failure::{Failure, Kind};
use crate::models::Labels;

fn parse_json(body: &Value) -> Result<InferRequest, Failure> {
    InferRequest::parse(&body.to_string().into(), None)
}

fn refusal(body: &Value) -> String {
    let failure = parse_json(body).unwrap_err();
    assert_eq!(failure.kind, Kind::Invalid);
    failure.message
}

fn with_input(input: &Value) -> Value {
    json!({"inputs": [input]})
}

fn tensors(request: InferRequest) -> Vec<Tensor> {
    request.inputs.resolve(&signature(&[])).unwrap()
}

fn signature(inputs: &[(&str, Datatype, &[i64])]) -> Signature {
    let spec = |(name, datatype, shape): &(&str, Datatype, &[i64])| TensorSpec {
        name: (*name).to_owned(),
        datatype: *datatype,
        shape: shape.to_vec(),
    };
    Signature { inputs: inputs.iter().map(spec).collect(), outputs: Vec::new(), ..Signature::default() }
}

fn with_header(json: &Value, raw: &[u8]) -> (Bytes, String) {
    let text = json.to_string();
    let length = text.len().to_string();
    ([text.as_bytes(), raw].concat().into(), length)
}

#[test]
fn flat_and_nested_data_mean_the_same_and_null_fields_are_absent_ones() {
    let flat = json!({"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2.5, 3, 4]});
    let nested = json!({"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [[1, 2.5], [3, 4]],
        "parameters": null});
    let body = json!({"id": null, "parameters": null, "outputs": null, "inputs": [nested]});
    let nested = parse_json(&body).unwrap();
    assert_eq!((nested.id.as_ref(), nested.outputs.as_ref(), nested.binary_outputs), (None, None, false));
    assert_eq!(tensors(nested), tensors(parse_json(&with_input(&flat)).unwrap()));
}

#[test]
fn an_output_is_asked_for_once_and_flags_are_flags() {
    let asked = |outputs: Value| json!({"inputs": [], "outputs": outputs});
    let twice = refusal(&asked(json!([{"name": "a"}, {"name": "b"}, {"name": "a"}])));
    assert_eq!(twice, "output 'a' is asked for twice");
    assert!(parse_json(&asked(json!([{"name": "a"}, {"name": "b"}]))).is_ok());
    let flag = refusal(&json!({"inputs": [], "parameters": {"binary_data_output": "yes"}}));
    assert_eq!(flag, "the parameter 'binary_data_output' is \"yes\"; expected true or false");
    assert!(refusal(&json!(null)).contains("expected an object with `inputs`"));
}

#[test]
fn a_complaint_names_the_input_and_the_element() {
    let input = |shape: Value, datatype: &str, data: Value| {
        refusal(&with_input(&json!({"name": "x", "shape": shape, "datatype": datatype, "data": data})))
    };
    let count = input(json!([1, 3]), "FP32", json!([1.0]));
    assert_eq!(count, "input 'x': shape [1, 3] needs 3 elements, the data has 1");
    assert_eq!(input(json!([1]), "FP31", json!([1.0])), "input 'x': unknown datatype 'FP31'");
    assert!(
        input(json!([-1]), "FP32", json!([1.0])).contains("input 'x': shape [-1] has the negative dimension")
    );
    let range = input(json!([2]), "INT8", json!([1, 300]));
    assert_eq!(range, "input 'x': element 1 is 300; INT8 expects a whole number from -128 to 127");
    assert!(input(json!([1]), "INT64", json!([1.5])).contains("element 0 is 1.5; INT64 expects"));
    assert!(input(json!([1]), "BOOL", json!([1])).contains("BOOL expects true or false"));
    assert!(input(json!([1]), "BYTES", json!([1])).contains("BYTES expects a string"));
    assert!(input(json!([1]), "FP32", json!([1e39])).contains("FP32 expects a number below"));
    assert!(input(json!([1]), "FP16", json!([1.0])).contains("send it as binary data"));
    assert!(input(json!([i64::MAX, 2]), "FP32", json!([])).contains("more elements than fit in memory"));
    for shape in [json!([1_i64 << 62, 1_i64 << 62, 0]), json!([0, 1_i64 << 62, 1_i64 << 62])] {
        assert!(input(shape, "FP32", json!([])).contains("more elements than fit in memory"));
    }
    let both = json!({"name": "x", "shape": [1], "datatype": "FP32", "data": [1],
        "parameters": {"binary_data_size": 4}});
    assert!(refusal(&with_input(&both)).contains("exactly one of"));
    let neither = json!({"name": "x", "shape": [1], "datatype": "FP32"});
    assert!(refusal(&with_input(&neither)).contains("exactly one of"));
    assert!(refusal(&json!({})).contains("missing field `inputs`"));
    let shared =
        json!({"name": "x", "shape": [1], "datatype": "FP32", "parameters": {"shared_memory_region": "r"}});
    assert_eq!(parse_json(&with_input(&shared)).unwrap_err().kind, Kind::Unsupported);
}

#[test]
fn missing_values_are_nan_in_every_spelling() {
    let body = Bytes::from_static(
        br#"{"inputs":[{"name":"x","shape":[5],"datatype":"FP64","data":[null,NaN,"NaN",-Infinity,"Infinity"]}]}"#,
    );
    let read = tensors(InferRequest::parse(&body, None).unwrap());
    let values = json_values(&read[0]);
    assert_eq!(values, vec![Value::Null; 5], "records have null for what JSON has no number for");
    let Data::Raw(bytes) = &read[0].data else { unreachable!("numbers are raw") };
    let (numbers, _) = bytes.as_chunks::<8>();
    let numbers: Vec<f64> = numbers.iter().map(|number| f64::from_le_bytes(*number)).collect();
    assert!(numbers[..3].iter().all(|number| number.is_nan()));
    assert!(numbers[3] < 0.0 && numbers[4] > 0.0);
}

#[test]
fn raw_tensors_follow_the_json_in_the_order_of_the_inputs() {
    let body = json!({"id": "7", "parameters": {"binary_data_output": true}, "inputs": [
        {"name": "x", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": 8}},
        {"name": "text", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": 11}},
    ]});
    let raw =
        [&1.5_f32.to_le_bytes()[..], &2.5_f32.to_le_bytes(), &3_u32.to_le_bytes(), b"abc", &[0; 4]].concat();
    let (whole, length) = with_header(&body, &raw);
    let request = InferRequest::parse(&whole, Some(&length)).unwrap();
    assert_eq!((request.id.as_deref(), request.binary_outputs), (Some("7"), true));
    let read = tensors(request);
    assert_eq!(read[0], Tensor::fp32("x", [2], &[1.5, 2.5]));
    assert_eq!(read[1], Tensor::strings("text", [2], vec!["abc".into(), String::new()]));

    let message = |body: &Bytes, length: &str| InferRequest::parse(body, Some(length)).unwrap_err().message;
    let (cut, length) = with_header(&body, &raw[..15]);
    assert!(message(&cut, &length).contains("input 'text': unexpected size, expecting 4 additional bytes"));
    let (long, length) = with_header(&body, &[&raw[..], b"more"].concat());
    assert!(message(&long, &length).contains("unexpected additional input data: 4 bytes"));
    let (torn, length) = with_header(&body, &[&raw[..8], &9_u32.to_le_bytes(), b"abc", &[0; 4]].concat());
    assert!(message(&torn, &length).contains("input 'text': string 0 has 9 bytes, 7 are left"));
    assert!(message(&whole, "100000").contains("inference header size should be in range"));
    assert!(message(&whole, "many").contains("inference header size should be in range"));
}

#[test]
fn a_whole_body_is_the_only_input() {
    let body = Bytes::from(vec![0; 16]);
    let parse = || InferRequest::parse(&body, Some("0")).unwrap();
    assert!(parse().binary_outputs);
    let read = parse().inputs.resolve(&signature(&[("x", Datatype::Fp32, &[-1, 2])])).unwrap();
    assert_eq!(read, vec![Tensor::fp32("x", [2, 2], &[0.0; 4])]);
    assert!(parse().inputs.resolve(&signature(&[("x", Datatype::Fp32, &[-1, 3])])).is_err());
    let two: &[_] = &[("x", Datatype::Fp32, &[-1, 2][..]), ("y", Datatype::Fp32, &[-1][..])];
    assert!(parse().inputs.resolve(&signature(two)).is_err());
}

fn answer() -> Vec<Tensor> {
    vec![
        Tensor::fp32("score", [2, 1], &[0.1, f32::NAN]),
        Tensor::raw("label", Datatype::Int64, [2], [1_i64, -2].map(i64::to_le_bytes).concat()),
        Tensor::strings("name", [1], vec!["Grüße".into()]),
    ]
}

fn encode(request: &Value) -> Result<Encoded, Failure> {
    let mut request = request.clone();
    request["inputs"] = json!([]);
    let outputs = answer();
    InferResponse { model_name: "cancer", model_version: "3", outputs: &outputs, labels: &Labels::default() }
        .encode(&parse_json(&request)?)
}

#[test]
fn an_answer_is_json_where_nothing_else_was_asked_for() {
    let encoded = encode(&json!({"id": "r-1"})).unwrap();
    assert_eq!(encoded.header_length, None);
    let body: Value = serde_json::from_slice(&encoded.body).unwrap();
    assert_eq!(
        body,
        json!({"id": "r-1", "model_name": "cancer", "model_version": "3", "outputs": [
            {"name": "score", "datatype": "FP32", "shape": [2, 1], "data": [0.1, "NaN"]},
            {"name": "label", "datatype": "INT64", "shape": [2], "data": [1, -2]},
            {"name": "name", "datatype": "BYTES", "shape": [1], "data": ["Grüße"]},
        ]})
    );
    let without_id: Value = serde_json::from_slice(&encode(&json!({})).unwrap().body).unwrap();
    assert_eq!(without_id.get("id"), None);
}

#[test]
fn outputs_come_as_each_was_asked_for() {
    let outputs = json!([{"name": "name", "parameters": {"binary_data": true}},
        {"name": "label", "parameters": {"binary_data": false}}]);
    let encoded = encode(&json!({"outputs": outputs, "parameters": {"binary_data_output": true}})).unwrap();
    let (json, raw) = encoded.body.split_at(encoded.header_length.unwrap());
    let json: Value = serde_json::from_slice(json).unwrap();
    assert_eq!(json["outputs"][0]["parameters"], json!({"binary_data_size": 11}));
    assert_eq!(json["outputs"][0].get("data"), None);
    assert_eq!(json["outputs"][1]["data"], json!([1, -2]));
    assert_eq!(raw, [&7_u32.to_le_bytes()[..], "Grüße".as_bytes()].concat());

    let unknown = encode(&json!({"outputs": [{"name": "nope"}]})).unwrap_err();
    assert!(unknown.message.contains("unexpected inference output 'nope'; the model gives 'score'"));
    let classes =
        encode(&json!({"outputs": [{"name": "label", "parameters": {"classification": 2}}]})).unwrap();
    let json: Value = serde_json::from_slice(&classes.body).unwrap();
    assert_eq!(
        json["outputs"],
        json!([{"name": "label", "datatype": "BYTES", "shape": [2], "data": ["1:0", "-2:1"]}])
    );
    for wrong in [json!(0), json!(-1), json!("two")] {
        let request = json!({"outputs": [{"name": "score", "parameters": {"classification": wrong}}]});
        assert!(encode(&request).unwrap_err().message.contains("output 'score': classification expects"));
    }
}

#[test]
fn rows_go_in_and_come_out() {
    let spec = signature(&[("x", Datatype::Fp32, &[-1, 2])]);
    let parse = |body: &Value| parse_instances(&body.to_string().into(), &spec);
    let wanted = vec![Tensor::fp32("x", [2, 2], &[1.0, 2.0, 3.0, f32::INFINITY])];
    assert_eq!(parse(&json!({"instances": [[1, 2], [3, "Infinity"]]})).unwrap(), wanted);
    assert_eq!(
        parse(&json!({"instances": [{"x": [1, 2]}, {"x": [3, "Infinity"]}], "more": 1})).unwrap(),
        wanted
    );
    let message = |body: &Value| parse(body).unwrap_err().message;
    assert!(message(&json!({"instances": [[1, 2], [3]]})).contains("instances[1] has another shape"));
    assert!(message(&json!({"instances": [{"y": 1}]})).contains("input 'x': instances[0] does not have it"));

    assert_eq!(
        message(&json!({"instances": {"x": 1}})),
        "`instances`: invalid type: object, expected an array"
    );
    assert!(message(&json!({"instances": [[{}, 1]]})).contains("input 'x': element 0 is {"));
    let deep = format!(r#"{{"instances":[{}{}]}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let deep = parse_instances(&deep.into(), &spec).unwrap_err().message;
    assert_eq!(deep, "input 'x': data is nested over 32 arrays deep");

    let predictions =
        |outputs: &[Tensor]| -> Value { serde_json::from_str(&predictions(outputs, 2).unwrap()).unwrap() };
    let one = predictions(&[Tensor::fp32("p", [2, 2], &[1.0, 2.0, 0.1, f32::NAN])]);
    assert_eq!(one, json!({"predictions": [[1.0, 2.0], [0.1, "NaN"]]}));
    let words = vec!["a\"],[".to_owned(), "b\n".to_owned()];
    assert_eq!(predictions(&[Tensor::strings("s", [2], words.clone())]), json!({"predictions": words}));
    assert_eq!(predictions(&[Tensor::fp32("p", [2, 1, 0], &[])]), json!({"predictions": [[[]], [[]]]}));
    let label = Tensor::raw("label", Datatype::Bool, [2], vec![1, 0]);
    let several = predictions(&[Tensor::fp32("p", [2, 1], &[1.0, 2.0]), label]);
    assert_eq!(several, json!({"predictions": [{"p": [1.0], "label": true}, {"p": [2.0], "label": false}]}));
}

#[test]
fn records_have_the_number_that_the_client_wrote() {
    let values = json_values(&Tensor::fp32("x", [3], &[0.1, 1e-7, f32::MAX]));
    assert_eq!(values, vec![json!(0.1), json!(1e-7), json!(3.402_823_5e38)]);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..200),
        header in proptest::option::of("[0-9]{1,3}")) {
        let _ = InferRequest::parse(&body.into(), header.as_deref());
    }

    #[test]
    fn single_precision_survives_json(values in proptest::collection::vec(any::<f32>()
        .prop_filter("finite", |value| value.is_finite()), 0..20)) {
        let tensor = Tensor::fp32("x", [i64::try_from(values.len()).unwrap()], &values);
        let request = InferRequest { id: None, parameters: Map::new(), inputs: Inputs::Named(Vec::new()),
            outputs: None, binary_outputs: false };
        let encoded = InferResponse { model_name: "m", model_version: "1",
            outputs: std::slice::from_ref(&tensor), labels: &Labels::default() }.encode(&request).unwrap();
        let body: Value = serde_json::from_slice(&encoded.body).unwrap();
        let recorded = Value::from(json_values(&tensor));
        for json in [&body["outputs"][0]["data"], &recorded] {
            let read = parse_elements(Datatype::Fp32, &json.to_string());
            prop_assert_eq!(read.as_ref(), Ok(&tensor.data));
        }
    }

    #[test]
    fn strings_survive_the_raw_form(strings in proptest::collection::vec(".{0,12}", 0..8)) {
        let tensor = Tensor::strings("s", [i64::try_from(strings.len()).unwrap()], strings);
        prop_assert_eq!(read_raw(Datatype::Bytes, raw_of(&tensor)).unwrap(), tensor.data);
    }
}

#[test]
fn a_raw_bool_is_true_wherever_it_is_not_zero() {
    let input = json!({"name": "x", "shape": [4], "datatype": "BOOL", "parameters": {"binary_data_size": 4}});
    let (body, length) = with_header(&with_input(&input), &[0, 1, 2, 255]);
    let named = tensors(InferRequest::parse(&body, Some(&length)).unwrap());
    assert_eq!(named, [Tensor::raw("x", Datatype::Bool, [4], vec![0, 1, 1, 1])]);
    let whole = InferRequest::parse(&Bytes::from_static(&[7, 0]), Some("0")).unwrap();
    let whole = whole.inputs.resolve(&signature(&[("x", Datatype::Bool, &[-1])])).unwrap();
    assert_eq!(whole, [Tensor::raw("x", Datatype::Bool, [2], vec![1, 0])]);
}
