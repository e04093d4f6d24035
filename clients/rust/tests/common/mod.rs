//! Runs the scenarios of clients/conformance against the program itself.
#![allow(dead_code)] // each test uses a part of it

pub mod server;
pub mod values;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use accessor_client::{Error, Problem};
use serde_json::{json, Map, Value};

use server::{FakeServer, Server};
use values::{expand, matches, Vars};

/// A client in a flavour, with what a scenario opens.
pub trait Operate: Send + Sync + 'static {
    /// Makes a client of that name for an address.
    fn connect(&self, name: &str, address: &str);
    /// Does one operation of the scenarios.
    fn operate(&self, client: &str, what: &str, with: &Value) -> Result<Value, Error>;
}

/// Where the scenarios are.
pub fn conformance() -> PathBuf {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|dir| dir.join("conformance"));
    above.into_iter().find(|dir| dir.is_dir()).expect("clients/conformance")
}

/// Runs all scenarios, two at a time, and says how many there were.
pub fn run_all<O: Operate>(flavour: &str, make: fn() -> O) {
    let dir = std::env::var_os("ACCESSOR_SCENARIOS").map_or(conformance().join("scenarios"), PathBuf::from);
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "json"));
    files.sort();
    let (count, queue, failed) = (files.len(), Mutex::new(files), Mutex::new(Vec::new()));
    assert!(count > 0, "no scenarios");
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| loop {
                let Some(file) = queue.lock().unwrap().pop() else { return };
                let name = file.file_stem().unwrap().to_string_lossy().into_owned();
                let begun = Instant::now();
                let result = std::panic::catch_unwind(|| run(&file, make()));
                let text = match result {
                    Ok(Ok(())) => {
                        println!("{flavour}: {name}: passed in {} ms", begun.elapsed().as_millis());
                        continue;
                    }
                    Ok(Err(text)) => text,
                    Err(_) => "the runner panicked".to_string(),
                };
                println!("{flavour}: {name}: FAILED: {text}");
                failed.lock().unwrap().push(name);
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{flavour}: failed: {failed:?}");
    println!("{flavour}: {count} scenarios passed");
}

struct Run<O> {
    operate: Arc<O>,
    server: Server,
    fakes: Vec<FakeServer>,
    vars: Vars,
    background: HashMap<String, (Value, thread::JoinHandle<Result<Value, Error>>)>,
}

fn run<O: Operate>(file: &Path, operate: O) -> Result<(), String> {
    // serde_json's maps are sorted: the order of the sockets is read from the text.
    let text = std::fs::read_to_string(file).unwrap();
    let scenario: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let server = Server::new(scenario.get("server"), &text);
    for name in &server.sockets {
        operate.connect(name, server.path(name).to_str().unwrap());
    }
    let vars = Vars::new(&conformance().join("chain.jsonl"));
    let mut run = Run { operate: Arc::new(operate), server, fakes: Vec::new(), vars, background: HashMap::new() };
    for (i, step) in scenario["steps"].as_array().unwrap().iter().enumerate() {
        let each = match step.get("each") {
            Some(list) => expand(list, &run.vars).as_array().unwrap().clone(),
            None => vec![Value::Null],
        };
        for member in each {
            run.vars.saved.insert("each".into(), member);
            run.step(step).map_err(|text| format!("step {}, {}: {text:.2000}", i + 1, step["do"]))?;
        }
    }
    Ok(())
}

const MEMBERS: [&str; 13] =
    ["do", "with", "client", "ok", "error", "save", "until", "start", "join", "each", "about", "comment", "name"];

impl<O: Operate> Run<O> {
    fn step(&mut self, step: &Value) -> Result<(), String> {
        for name in step.as_object().unwrap().keys() {
            assert!(MEMBERS.contains(&name.as_str()), "a step's member {name} is not known");
        }
        if let Some(name) = step.get("join") {
            let (step, thread) = self.background.remove(name.as_str().unwrap()).unwrap();
            return self.judge(&step, thread.join().unwrap());
        }
        let what = step["do"].as_str().unwrap().to_string();
        let with = expand(step.get("with").unwrap_or(&json!({})), &self.vars);
        let client = step["client"].as_str().unwrap_or(&self.server.sockets[0]).to_string();
        if let Some(name) = step.get("start") {
            let operate = self.operate.clone();
            let thread = thread::spawn(move || operate.operate(&client, &what, &with));
            self.background.insert(name.as_str().unwrap().into(), (step.clone(), thread));
            return Ok(());
        }
        let until = step.get("until").map(|s| Instant::now() + Duration::from_secs_f64(s.as_f64().unwrap()));
        loop {
            let result = match self.own(&what, &with) {
                Some(result) => Ok(result),
                None => self.operate.operate(&client, &what, &with),
            };
            match (self.judge(step, result), until) {
                (Err(_), Some(until)) if Instant::now() < until => thread::sleep(Duration::from_millis(10)),
                (judged, _) => return judged,
            }
        }
    }

    /// Does what is the runner's own part.
    fn own(&mut self, what: &str, with: &Value) -> Option<Value> {
        match what {
            "server_stop" => self.server.stop("TERM"),
            "server_kill" => self.server.stop("KILL"),
            "server_start" => self.server.start(),
            "sleep" => thread::sleep(Duration::from_millis(with["ms"].as_u64().unwrap())),
            "fake_server" => {
                let name = with["socket"].as_str().unwrap();
                let path = self.server.path(name);
                self.fakes.push(FakeServer::start(&path, &with["answers"]));
                self.operate.connect(name, path.to_str().unwrap());
            }
            _ => return None,
        }
        Some(json!({}))
    }

    fn judge(&mut self, step: &Value, result: Result<Value, Error>) -> Result<(), String> {
        let result = match (result, step.get("error")) {
            (Ok(value), None) => value,
            (Ok(value), Some(_)) => return Err(format!("no error, but {value}")),
            (Err(error), None) => return Err(format!("{error:?}")),
            (Err(error), Some(pattern)) => {
                let error = problem(&error);
                matches(&expand(pattern, &self.vars), &error).map_err(|at| format!("{at} in {error}"))?;
                error
            }
        };
        if let Some(pattern) = step.get("ok") {
            matches(&expand(pattern, &self.vars), &result).map_err(|at| format!("{at} in {result}"))?;
        }
        for (name, path) in step.get("save").and_then(Value::as_object).unwrap_or(&Map::new()) {
            let pointer = match path.as_str().unwrap() {
                "" => String::new(),
                path => format!("/{}", path.replace('.', "/")),
            };
            let part = result.pointer(&pointer).ok_or(format!("nothing at {path} in {result}"))?;
            self.vars.saved.insert(name.clone(), part.clone());
        }
        Ok(())
    }
}

/// An error as JSON.
pub fn problem(problem: &Problem) -> Value {
    let mut out = json!({
        "kind": problem.kind.as_str(),
        "detail": problem.detail,
        "nearest": problem.nearest.map(|about| about.to_json()),
        "candidates": problem.candidates.iter().map(|about| about.to_json()).collect::<Vec<_>>(),
        "declared": problem.declared.map(|hash| hash.to_string()),
        "actual": problem.actual.map(|hash| hash.to_string()),
        "holder": problem.holder.as_ref().map(|holder| holder.to_json()),
        "obstacles": problem.obstacles.iter().map(|obstacle| obstacle.to_json()).collect::<Vec<_>>(),
        "block": problem.block.map(|hash| hash.to_string()),
        "slot": problem.slot,
        "root": problem.root.map(|hash| hash.to_string()),
        "key": problem.key, "item": problem.item, "action": problem.action,
    });
    if problem.status != 0 {
        out["status"] = json!(problem.status);
    }
    if let Some(time) = problem.retry_after {
        out["retry_after"] = json!(time.as_secs());
    }
    out
}
