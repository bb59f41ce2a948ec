//! Logs as server-sent events: followed, interrupted and resumed.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::World;

/// Event type, id and data of each event of a body.
fn events(body: &str) -> Vec<(String, String, Value)> {
    let field = |event: &str, name: &str| -> String {
        let line = event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_default().to_owned()
    };
    let events = body.split("\n\n").filter(|event| event.contains("event: "));
    events
        .map(|event| {
            let data = serde_json::from_str(&field(event, "data")).unwrap();
            (field(event, "event"), field(event, "id"), data)
        })
        .collect()
}

async fn read(world: &World, job: &str, query: &str, last: Option<&str>) -> Vec<(String, String, Value)> {
    let url = format!("{}/api/v1/jobs/{job}/logs?{query}", world.url);
    let mut request = reqwest::Client::new().get(url).header("accept", "text/event-stream");
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    events(&response.text().await.unwrap())
}

fn text(events: &[(String, String, Value)]) -> String {
    events.iter().filter_map(|(_, _, data)| data["text"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_events_continues_after_the_last_one_received() {
    let world = World::begin().await;
    // Two attempts; the first character of the second part has three bytes.
    let script =
        r#"echo "attempt $SLIPWAY_ATTEMPT"; printf '\342'; sleep 0.4; printf '\202\254 end\n'; exit 1"#;
    let retries = json!({"retries": {"limit": 1, "backoff_initial_ms": 50, "backoff_max_ms": 50}});
    let job = world.submit_script(script, retries).await;
    let followed = read(&world, &job, "follow=true", None).await;
    assert_eq!(text(&followed), "attempt 1\n\u{20ac} end\nattempt 2\n\u{20ac} end\n", "{followed:?}");
    let (last, _, data) = followed.last().unwrap();
    assert_eq!((last.as_str(), &data["attempt"]), ("end", &json!(2)));
    let first = &followed[0];
    assert_eq!((first.0.as_str(), &first.2["attempt"], &first.2["offset"]), ("output", &json!(1), &json!(0)));

    for (index, (_, id, _)) in followed.iter().enumerate().filter(|(_, (event, _, _))| event == "output") {
        let rest = read(&world, &job, "", Some(id)).await;
        assert_eq!(text(&rest), text(&followed[index + 1..]), "after {id}");
    }
    let only = read(&world, &job, "attempt=1&offset=8", None).await;
    assert_eq!(text(&only), "1\n\u{20ac} end\n");
    assert_eq!(world.log(&job, "attempt=2&offset=10").await, "\u{20ac} end\n", "as text, too");
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_that_are_not_valid_are_named() {
    let world = World::begin().await;
    let job = world.submit(json!({"name": "a", "command": ["true"]})).await;
    world.ended(&job, "succeeded").await;
    let path = format!("/api/v1/jobs/{job}/logs");
    for (query, field) in [("offset=3", "offset"), ("attempt=one", "attempt"), ("follow=maybe", "follow")] {
        let response = world.request(Method::GET, &format!("{path}?{query}"), String::new()).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{query}");
        assert_eq!(response.json::<Value>().await.unwrap()["field"], field);
    }
    let request = reqwest::Client::new().get(format!("{}{path}", world.url));
    let request = request.header("accept", "text/event-stream").header("last-event-id", "x");
    let response = request.send().await.unwrap();
    assert_eq!(response.json::<Value>().await.unwrap()["field"], "Last-Event-ID");
}
