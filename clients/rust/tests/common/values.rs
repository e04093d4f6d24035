//! The forms of values and patterns in scenarios.

use std::collections::HashMap;
use std::path::Path;

use accessor_client::{from_hex, hex};
use serde_json::{json, Value};

/// What values may stand for.
pub struct Vars {
    /// What was saved.
    pub saved: HashMap<String, Value>,
    blocks: Vec<Value>,
    anchor: Value,
}

impl Vars {
    /// With a recorded chain.
    pub fn new(chain: &Path) -> Self {
        let text = std::fs::read_to_string(chain).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let of = |kind: &str| lines.iter().filter(|line| line["type"] == kind).cloned().collect::<Vec<_>>();
        let anchor = of("anchor").remove(0);
        let anchor = json!({"hash": anchor["hash"], "root": anchor["state_root"]});
        Vars { saved: HashMap::new(), blocks: of("block"), anchor }
    }
}

fn number(value: &Value, name: &str) -> usize {
    value.get(name).map_or(0, |n| n.as_u64().unwrap() as usize)
}

fn key(of: &Value, i: usize) -> Vec<u8> {
    let mut key = from_hex(of.get("prefix").map_or("", |p| p.as_str().unwrap())).unwrap();
    key.resize(27, 0);
    key.extend((i as u32).to_be_bytes());
    key
}

fn value(of: &Value, i: usize) -> Vec<u8> {
    (0..number(of, "size")).map(|j| (number(of, "seed") + 31 * i + 7 * j) as u8).collect()
}

fn list(of: &Value, make: impl Fn(usize) -> Value) -> Value {
    let from = number(of, "from");
    (from..from + number(of, "count")).map(make).collect()
}

fn bytes(of: &Value) -> Vec<u8> {
    from_hex(of["of"].as_str().unwrap()).unwrap()
}

/// Replaces the forms in a value by what they stand for.
pub fn expand(from: &Value, vars: &Vars) -> Value {
    let object = match from {
        Value::Array(list) => return list.iter().map(|v| expand(v, vars)).collect(),
        Value::Object(object) => object,
        plain => return plain.clone(),
    };
    let all = || object.iter().map(|(name, v)| (name.clone(), expand(v, vars))).collect();
    let (1, Some((form, of))) = (object.len(), object.iter().next()) else { return Value::Object(all()) };
    let of = &expand(of, vars);
    match form.as_str() {
        "$var" => vars.saved.get(of.as_str().unwrap()).unwrap_or_else(|| panic!("no variable {of}")).clone(),
        "$hash" => json!(of.as_str().unwrap().repeat(32)),
        "$recorded" => vars.blocks[of.as_u64().unwrap() as usize - 1].clone(),
        "$block" => vars.blocks[of.as_u64().unwrap() as usize - 1]["hash"].clone(),
        "$anchor" => vars.anchor[of.as_str().unwrap()].clone(),
        "$keys" => list(of, |i| json!(hex(&key(of, i)))),
        "$values" => list(of, |i| json!(hex(&value(of, i)))),
        "$pairs" => list(of, |i| json!([hex(&key(of, i)), hex(&value(of, i))])),
        "$bytes" => json!(hex(&value(of, 0))),
        "$repeat" => vec![of["of"].clone(); number(of, "count")].into(),
        "$concat" => of.as_array().unwrap().iter().flat_map(|list| list.as_array().unwrap().clone()).collect(),
        "$reversed" => of.as_array().unwrap().iter().rev().cloned().collect(),
        "$flip" => {
            let (mut bytes, at) = (bytes(of), of["at"].as_i64().unwrap());
            let at = if at < 0 { bytes.len() as i64 + at } else { at };
            bytes[at as usize] ^= 1;
            json!(hex(&bytes))
        }
        "$cut" => {
            let bytes = bytes(of);
            json!(hex(&bytes[..bytes.len() - number(of, "bytes")]))
        }
        "$any" | "$len" | "$each" | "$some" | "$not" | "$min" => Value::Object(all()),
        form if form.starts_with('$') => panic!("the form {form} is not known"),
        _ => Value::Object(all()),
    }
}

/// Says where a value doesn't match a pattern.
pub fn matches(pattern: &Value, value: &Value) -> Result<(), String> {
    let wrong = || Err(format!("{value:.300} is not {pattern:.300}"));
    let verdict = |good| if good { Ok(()) } else { wrong() };
    match pattern {
        Value::Object(object) => {
            let form = object.iter().next().filter(|(name, _)| object.len() == 1 && name.starts_with('$'));
            match form.map(|(name, of)| (name.as_str(), of)) {
                Some(("$any", _)) => verdict(!value.is_null()),
                Some(("$len", n)) => verdict(value.as_array().map(Vec::len) == Some(n.as_u64().unwrap() as usize)),
                Some(("$min", n)) => verdict(value.as_f64().is_some_and(|v| v >= n.as_f64().unwrap())),
                Some(("$not", of)) => verdict(matches(of, value).is_err()),
                Some(("$each", of)) => match value.as_array() {
                    Some(list) => list.iter().try_for_each(|v| matches(of, v)),
                    None => wrong(),
                },
                Some(("$some", of)) => {
                    verdict(value.as_array().is_some_and(|list| list.iter().any(|v| matches(of, v).is_ok())))
                }
                Some((form, _)) => panic!("the pattern {form} is not known"),
                None if value.is_object() => object.iter().try_for_each(|(name, of)| {
                    matches(of, value.get(name).unwrap_or(&Value::Null)).map_err(|at| format!("{name}: {at}"))
                }),
                None => wrong(),
            }
        }
        Value::Array(list) => match value.as_array() {
            Some(values) if values.len() == list.len() => {
                let mut both = list.iter().zip(values).enumerate();
                both.try_for_each(|(i, (of, v))| matches(of, v).map_err(|at| format!("{i}: {at}")))
            }
            _ => wrong(),
        },
        Value::Number(n) => verdict(value.as_f64() == n.as_f64()),
        plain => verdict(plain == value),
    }
}
