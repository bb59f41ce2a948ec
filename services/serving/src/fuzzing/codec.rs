//! Thousands of damaged requests: none stops the server, and none takes memory out of proportion.

use bytes::Bytes;
use proptest::prelude::*;
use slipway_api::inference as proto;
use slipway_inference::{Datatype, Tensor};

use crate::codec::{InferRequest, Inputs, read_raw};
use crate::fuzzing;

const CASES: u32 = 4_000;

/// A valid request with two inputs, one of them raw behind the JSON.
fn lawful() -> (Vec<u8>, usize) {
    let json = br#"{"id":"r","parameters":{"timeout":5,"binary_data_output":true},"inputs":[{"name":"x","shape":[2,2],"datatype":"FP32","data":[[1,2.5],[-3e4,NaN]]},{"name":"t","shape":[1],"datatype":"BYTES","data":["a\u00e9\n"]},{"name":"y","shape":[1],"datatype":"INT64","parameters":{"binary_data_size":8}}],"outputs":[{"name":"o","parameters":{"classification":2}}]}"#;
    let length = json.len();
    ([&json[..], &7_i64.to_le_bytes()].concat(), length)
}

/// What happens to a byte on a bad line.
fn damage() -> impl Strategy<Value = Vec<(usize, u8, u8)>> {
    proptest::collection::vec((any::<usize>(), any::<u8>(), 0_u8..4), 1..6)
}

fn damaged(mut bytes: Vec<u8>, damage: &[(usize, u8, u8)]) -> Vec<u8> {
    for (at, byte, kind) in damage {
        if bytes.is_empty() {
            break;
        }
        let at = at % bytes.len();
        match kind {
            0 => bytes[at] = *byte,
            1 => bytes.insert(at, b"{}[]\",:0-eE.\\nt"[usize::from(*byte) % 15]),
            2 => drop(bytes.remove(at)),
            _ => bytes.truncate(at),
        }
    }
    bytes
}

#[test]
fn the_lawful_request_is_one() {
    let (body, length) = lawful();
    let request = InferRequest::parse(&body.into(), Some(&length.to_string())).unwrap();
    let Inputs::Named(tensors) = request.inputs else { panic!("{request:?}") };
    let sizes: Vec<usize> = tensors.iter().map(Tensor::size_bytes).collect();
    assert_eq!(sizes, [16, size_of::<String>() + 4, 8]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() })]

    #[test]
    fn damaged_requests_are_refused_or_read(damage in damage(),
        header in proptest::option::of(0_usize..600)) {
        let (body, length) = lawful();
        let body = Bytes::from(damaged(body, &damage));
        for header in [header, Some(length), None] {
            let header = header.map(|header| header.to_string());
            fuzzing::request(&body, header.as_deref());
        }
    }

    #[test]
    fn any_bytes_are_refused_or_read(body in proptest::collection::vec(any::<u8>(), 0..300),
        header in "[0-9a-z -]{0,20}") {
        let body = Bytes::from(body);
        for header in [None, Some(&*header)] {
            fuzzing::request(&body, header);
        }
        fuzzing::rows(&body);
        fuzzing::compressed(&body);
        fuzzing::framed(&body);
    }

    #[test]
    fn any_data_of_any_type_is_refused_or_read(
        datatype in proptest::sample::select(&Datatype::ALL[..]),
        data in "(\\[|\\]|,|[0-9]{1,22}|-|1e[0-9]{1,4}|\"[a-z\\\\\"]{0,4}\"?|null|true|NaN|\\{\\}| \
            |\\.){0,24}",
    ) {
        let body = format!(r#"{{"inputs":[{{"name":"x","shape":[1],"datatype":"{datatype}","data":{data}}}]}}"#);
        fuzzing::json(body.as_bytes());
    }

    #[test]
    fn raw_tensors_of_any_type_are_refused_or_read(
        datatype in proptest::sample::select(&Datatype::ALL[..]),
        bytes in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let length = bytes.len();
        if let Ok(data) = read_raw(datatype, bytes.into()) {
            let tensor = Tensor { name: String::new(), datatype, shape: Vec::new(), data };
            prop_assert!(tensor.size_bytes() <= length * fuzzing::GROWTH);
        }
    }

    #[test]
    fn damaged_grpc_messages_are_refused_or_read(damage in damage(), is_raw in any::<bool>(),
        datatype in proptest::sample::select(&Datatype::ALL[..])) {
        use prost::Message as _;
        let contents = proto::InferTensorContents {
            fp32_contents: vec![1.0; 4], int_contents: vec![300], bytes_contents: vec![vec![0xff].into()],
                ..Default::default()
        };
        let input = proto::model_infer_request::InferInputTensor {
            name: "x".into(), datatype: datatype.name().into(), shape: vec![2, -2], contents: (!is_raw)
                .then_some(contents), ..Default::default()
        };
        let message = proto::ModelInferRequest {
            model_name: "m".into(), id: "r".into(), inputs: vec![input],
            raw_input_contents: is_raw.then(|| vec![1, 2, 3, 4, 5, 6, 7, 8].into()).into_iter().collect(),
                ..Default::default()
        };
        fuzzing::grpc(&damaged(message.encode_to_vec(), &damage));
    }
}
