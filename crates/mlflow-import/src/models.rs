//! Registered models: made before their versions, and complete after them, with their aliases.

use std::cell::RefCell;
use std::collections::HashMap;

use futures::StreamExt as _;
use reqwest::Method;
use serde_json::{Value, json};

use crate::body;
use crate::failure::Failure;
use crate::http::Server;
use crate::json::{key_value, list, next_page, pair, text};
use crate::mark::{self, State};
use crate::report::Kind;
use crate::state::Import;
use crate::uri::Roots;
use crate::versions::{self, Job};

const PAGE: &str = "100";
const VERSIONS_PAGE: &str = "1000";

/// A registered model whose versions come now.
struct Begun {
    model: Value,
    digest: String,
    /// What the registry has of it; absent where it is new.
    target: Option<Value>,
    complete: bool,
}

/// Copies the registered models that are asked for.
pub(crate) async fn copy(import: &Import, roots: &Roots) {
    if !import.options.everything() && import.options.models.is_empty() {
        return;
    }
    if import.stopped().is_some() {
        return;
    }
    let models = match wanted(import).await {
        Ok(models) => models,
        Err(failure) => return import.report.failed(Kind::Models, "as they were listed", failure),
    };
    import.report.found(Kind::Models, models.len());
    let (begun, jobs) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
    let each = futures::stream::iter(models).for_each_concurrent(import.concurrency(), async |model| {
        let name = text(&model, "/name").to_owned();
        match begin(import, model, roots).await {
            Ok((model, versions)) => {
                begun.borrow_mut().push(model);
                jobs.borrow_mut().extend(versions);
            }
            Err(failure) => import.report.failed(Kind::Models, name, failure),
        }
    });
    each.await;
    versions::copy(import, jobs.into_inner()).await;
    let each = futures::stream::iter(begun.into_inner());
    each.for_each_concurrent(import.concurrency(), async |begun| finish(import, &begun).await).await;
}

async fn wanted(import: &Import) -> Result<Vec<Value>, Failure> {
    let mut models = Vec::new();
    for name in &import.options.models {
        match import.source.get("registered-models/get", &[("name", name)]).await {
            Ok(answer) => models.extend(answer.get("registered_model").cloned()),
            Err(failure) if failure.is_absent() => {
                import.report.failed(Kind::Models, name, format!("{} has none", import.source.address));
            }
            Err(failure) => return Err(failure),
        }
    }
    if import.options.models.is_empty() {
        models =
            pages(&import.source, "registered-models/search", "/registered_models", &[("max_results", PAGE)])
                .await?;
        models.retain(|model| !body::is_prompt(model));
    }
    Ok(models)
}

/// Makes the model, and finds its versions on both sides.
async fn begin(import: &Import, model: Value, roots: &Roots) -> Result<(Begun, Vec<Job>), Failure> {
    let name = text(&model, "/name").to_owned();
    let digest = body::model_digest(&model);
    let target = match import.target.get("registered-models/get", &[("name", &name)]).await {
        Ok(answer) => answer.get("registered_model").cloned(),
        Err(failure) if failure.is_absent() => None,
        Err(failure) => return Err(failure),
    };
    let mut complete = false;
    if let Some(target) = &target {
        match mark::state(list(target, "/tags"), &name, &digest) {
            State::Complete => complete = true,
            State::Partial => {}
            State::Foreign => {
                return Err(Failure::Refused {
                    status: 0,
                    code: "RESOURCE_ALREADY_EXISTS".to_owned(),
                    message: "the registry has a model of this name that was not imported, so none of its \
                        versions was copied: rename one of the two"
                        .to_owned(),
                });
            }
        }
    } else if !import.options.dry_run {
        let made = import
            .target
            .post("registered-models/create", &body::model_create(&model, &import.source.address))
            .await;
        if let Err(failure) = made
            && !failure.is("RESOURCE_ALREADY_EXISTS")
        {
            return Err(failure);
        }
    }
    let found = versions_of(&import.source, &name).await?;
    import.report.found(Kind::Versions, found.len());
    let mut there: HashMap<String, Value> = HashMap::new();
    if target.is_some() {
        for version in versions_of(&import.target, &name).await? {
            there.insert(text(&version, "/version").to_owned(), version);
        }
    }
    let jobs = found
        .into_iter()
        .map(|version| {
            let existing = there.remove(text(&version, "/version"));
            Job::new(version, existing, roots)
        })
        .collect();
    Ok((Begun { model, digest, target, complete }, jobs))
}

/// Aliases, and what changed since the model was made; then it is complete.
async fn finish(import: &Import, begun: &Begun) {
    let (report, name) = (&import.report, text(&begun.model, "/name"));
    report.found(Kind::Aliases, body::aliases(&begun.model).count());
    if begun.complete {
        report.skipped(Kind::Models);
        body::aliases(&begun.model).for_each(|_| report.skipped(Kind::Aliases));
        return;
    }
    if import.stopped().is_some() {
        return;
    }
    let aliases_set = set_aliases(import, begun).await;
    if import.options.dry_run {
        return report.copied(Kind::Models);
    }
    let outcome = async {
        if let Some(target) = &begun.target {
            update(import, &begun.model, target).await?;
        }
        if aliases_set {
            set_tag(import, name, &mark::complete(&begun.digest)).await?;
        }
        Ok::<(), Failure>(())
    };
    match outcome.await {
        Ok(()) => report.copied(Kind::Models),
        Err(failure) => report.failed(Kind::Models, name, failure),
    }
}

/// Answers whether all aliases point where they do at the source.
async fn set_aliases(import: &Import, begun: &Begun) -> bool {
    let name = text(&begun.model, "/name");
    let there: HashMap<&str, &str> = begun.target.iter().flat_map(body::aliases).collect();
    let mut all_set = true;
    for (alias, version) in body::aliases(&begun.model) {
        if there.get(alias) == Some(&version) {
            import.report.skipped(Kind::Aliases);
            continue;
        }
        let body = json!({"name": name, "alias": alias, "version": version});
        let set = if import.options.dry_run {
            Ok(Value::Null)
        } else {
            import.target.post("registered-models/alias", &body).await
        };
        match set {
            Ok(_) => import.report.copied(Kind::Aliases),
            Err(failure) => {
                all_set = false;
                import.report.failed(Kind::Aliases, format!("{name}@{alias}"), failure);
            }
        }
    }
    all_set
}

/// Brings a model that was there before to the state at the source.
async fn update(import: &Import, model: &Value, target: &Value) -> Result<(), Failure> {
    let (name, description) = (text(model, "/name"), text(model, "/description"));
    if description != text(target, "/description") {
        let body = json!({"name": name, "description": description});
        import.target.send(Method::PATCH, "registered-models/update", &body).await?;
    }
    for tag in mark::copied_tags(model, "/tags") {
        if pair(list(target, "/tags"), text(&tag, "/key")) != Some(text(&tag, "/value")) {
            set_tag(import, name, &tag).await?;
        }
    }
    Ok(())
}

async fn set_tag(import: &Import, name: &str, tag: &Value) -> Result<(), Failure> {
    let mut body = key_value(text(tag, "/key"), text(tag, "/value"));
    body["name"] = name.into();
    import.target.post("registered-models/set-tag", &body).await.map(drop)
}

/// All versions of a model that are not deleted.
async fn versions_of(server: &Server, name: &str) -> Result<Vec<Value>, Failure> {
    // Filters know no escape: a name with one kind of quote stands in the other.
    let quote = if name.contains('\'') { '"' } else { '\'' };
    let filter = format!("name={quote}{name}{quote}");
    let query = [("filter", filter.as_str()), ("max_results", VERSIONS_PAGE)];
    pages(server, "model-versions/search", "/model_versions", &query).await
}

async fn pages(
    server: &Server,
    path: &str,
    items: &str,
    query: &[(&str, &str)],
) -> Result<Vec<Value>, Failure> {
    let (mut found, mut token) = (Vec::new(), String::new());
    loop {
        let mut query = query.to_vec();
        if !token.is_empty() {
            query.push(("page_token", &token));
        }
        let answer = server.get(path, &query).await?;
        found.extend(list(&answer, items).iter().cloned());
        match next_page(&answer) {
            Some(next) => token = next,
            None => return Ok(found),
        }
    }
}
