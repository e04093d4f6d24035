//! Every scenario of clients/conformance, with the blocking client and with tokio's.

mod common;

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use accessor_client::{
    from_hex, hex, About, CommitOptions, DraftOptions, Error, EventKind, EventOptions, Hash, Keep, Kind, NewBlock,
    PinOptions, ScanOptions, Shard, Spec, Statement,
};
use common::Operate;
use serde_json::{json, Value};

type Result<T> = std::result::Result<T, Error>;

/// Arguments of an operation. What is missing where it must not be is the scenario's fault.
struct With<'a>(&'a Value);

impl With<'_> {
    fn text(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or_else(|| panic!("no {name}"))
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.0[name].as_u64()
    }

    fn flag(&self, name: &str) -> Option<bool> {
        self.0[name].as_bool()
    }

    fn millis(&self, name: &str) -> Option<Duration> {
        self.number(name).map(Duration::from_millis)
    }

    fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        self.0[name].as_str().map(|text| from_hex(text).unwrap())
    }

    fn hash(&self, name: &str) -> Hash {
        self.text(name).parse().unwrap()
    }

    fn texts(&self, name: &str) -> Vec<String> {
        let list = self.0[name].as_array().into_iter().flatten();
        list.map(|text| text.as_str().unwrap().to_string()).collect()
    }

    fn keys(&self) -> Vec<accessor_client::Key> {
        self.texts("keys").into_iter().map(key).collect()
    }

    fn key(&self) -> accessor_client::Key {
        key(self.text("key").to_string())
    }

    fn puts(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let bytes = |text: &Value| from_hex(text.as_str().unwrap()).unwrap();
        self.0["puts"].as_array().into_iter().flatten().map(|pair| (bytes(&pair[0]), bytes(&pair[1]))).collect()
    }

    fn dels(&self) -> Vec<Vec<u8>> {
        self.texts("dels").iter().map(|text| from_hex(text).unwrap()).collect()
    }

    fn scan(&self) -> ScanOptions {
        ScanOptions {
            prefix: self.bytes("prefix").unwrap_or_default(),
            from: self.bytes("from"),
            to: self.bytes("to"),
            reverse: self.flag("reverse").unwrap_or(false),
            limit: self.number("limit"),
            page: self.number("page").map_or(1000, |n| n as usize),
        }
    }
}

/// Whole keys as bytes, so that batches of them go in binary.
fn key(text: String) -> accessor_client::Key {
    match from_hex(&text) {
        Some(bytes) if bytes.len() == 31 => bytes.into(),
        _ => text.into(),
    }
}

fn optional(value: Option<Vec<u8>>) -> Value {
    value.map_or(Value::Null, |bytes| json!(hex(&bytes)))
}

fn list(values: Vec<Option<Vec<u8>>>) -> Value {
    values.into_iter().map(optional).collect()
}

/// Adds block, slot and root.
fn about(about: Option<About>, mut result: Value) -> Result<Value> {
    if let (Some(about), Some(members)) = (about, result.as_object_mut()) {
        members.extend(about.to_json().as_object().unwrap().clone());
    }
    Ok(result)
}

macro_rules! operations {
    ($flavour:ident, $($async:tt)?) => {
        pub struct Clients {
            clients: Mutex<HashMap<String, $flavour::Client>>,
            events: Mutex<HashMap<String, $flavour::Events>>,
            scans: Mutex<HashMap<String, $flavour::Scan>>,
        }

        impl Clients {
            pub fn new() -> Self {
                Clients { clients: Mutex::default(), events: Mutex::default(), scans: Mutex::default() }
            }

            pub fn add(&self, name: &str, address: &str) {
                let client = $flavour::Client::new(&format!("unix://{address}")).unwrap();
                self.clients.lock().unwrap().insert(name.to_string(), client);
            }

            pub $($async)? fn operate(&self, client: &str, what: &str, with: &Value) -> Result<Value> {
                let client = self.clients.lock().unwrap()[client].clone();
                let with = With(with);
                match what {
                    "block" => Ok(wait!(client.block(with.text("at")))?.to_json()),
                    "wait_block" => {
                        Ok(wait!(client.wait_block(with.hash("hash"), with.millis("wait_ms").unwrap()))?.to_json())
                    }
                    "blocks" => {
                        let page = with.number("page").map_or(10_000, |n| n as usize);
                        Ok(wait!(client.tree(with.flag("leaves").unwrap_or(false), page))?.to_json())
                    }
                    "import" => {
                        let block = NewBlock::from_json(with.0).unwrap();
                        let imported = match with.millis("wait_ms") {
                            Some(wait) => wait!(client.import_within(&block, wait)),
                            None => wait!(client.import(&block)),
                        };
                        Ok(imported?.to_json())
                    }
                    "import_many" => wait!(import_many(&client, &with)),
                    "held" => {
                        let hashes: Vec<Hash> = with.texts("hashes").iter().map(|text| text.parse().unwrap()).collect();
                        let held = wait!(client.held(&hashes))?;
                        Ok(json!({"held": held.iter().map(Hash::to_string).collect::<Vec<_>>()}))
                    }
                    "head" => Ok(wait!(client.set_head(with.hash("hash")))?.to_json()),
                    "finalize" => Ok(wait!(client.finalize(with.hash("hash")))?.to_json()),
                    "diff" => Ok(wait!(client.diff(with.text("from"), with.text("to")))?.to_json()),
                    "history" => {
                        let at = with.0["at"].as_str().unwrap_or("head");
                        Ok(wait!(client.history(with.key(), at, with.number("limit")))?.to_json())
                    }
                    "drafts" => {
                        let drafts = wait!(client.drafts())?;
                        Ok(json!({"drafts": drafts.iter().map(|draft| draft.to_json()).collect::<Vec<_>>()}))
                    }
                    "pins" => {
                        let pins = wait!(client.pins())?;
                        Ok(json!({"pins": pins.iter().map(|pin| pin.to_json()).collect::<Vec<_>>()}))
                    }
                    "locks" => Ok(wait!(client.locks())?.to_json()),
                    "item" => Ok(json!({"item": hex(&wait!(client.item(with.hash("hash")))?)})),
                    "put_item" => {
                        let hash = wait!(client.put_item(with.bytes("item").unwrap()))?;
                        Ok(json!({"hash": hash.to_string()}))
                    }
                    "encode" | "bundle" | "segment" | "shard" | "put_shard" => wait!(erasure(&client, what, &with)),
                    "status" => Ok(wait!(client.status())?.to_json()),
                    "pin" | "pin_renew" | "unpin" | "pin_scope" => wait!(pins(&client, what, &with)),
                    "check_proof" => {
                        let proven = Statement::decode(&with.bytes("proof").unwrap())?.verify(&with.hash("root"))?;
                        let pairs = proven.pairs.into_iter().map(|(key, value)| json!([hex(&key), optional(value)]));
                        Ok(json!({"pairs": pairs.collect::<Vec<_>>(), "more": proven.more}))
                    }
                    _ if what.starts_with("draft") => wait!(drafts(&client, what, &with)),
                    _ if what.starts_with("events") => wait!(self.events(&client, what, &with)),
                    "scan_open" => {
                        let scan = client.at(with.text("at")).scan(with.scan());
                        self.scans.lock().unwrap().insert(with.text("scan").into(), scan);
                        Ok(json!({}))
                    }
                    "scan_next" => wait!(self.scan_next(&with)),
                    _ => wait!(reads(&client, what, &with)),
                }
            }

            $($async)? fn events(&self, client: &$flavour::Client, what: &str, with: &With<'_>) -> Result<Value> {
                let name = with.text("events");
                match what {
                    "events_open" => {
                        let kinds = with.texts("kinds").iter().map(|kind| EventKind::from(kind.as_str())).collect();
                        let events = wait!(client.events(EventOptions { kinds, after: with.number("after") }))?;
                        self.events.lock().unwrap().insert(name.to_string(), events);
                        Ok(json!({}))
                    }
                    "events_next" => {
                        let mut events = self.events.lock().unwrap().remove(name).unwrap();
                        let within = with.millis("within_ms").unwrap_or(Duration::from_secs(10));
                        let event = wait!(events.next_within(within));
                        self.events.lock().unwrap().insert(name.to_string(), events);
                        Ok(event?.to_json())
                    }
                    "events_close" => {
                        self.events.lock().unwrap().remove(name).unwrap();
                        Ok(json!({}))
                    }
                    _ => panic!("the operation {what} is not known"),
                }
            }

            $($async)? fn scan_next(&self, with: &With<'_>) -> Result<Value> {
                let mut scan = self.scans.lock().unwrap().remove(with.text("scan")).unwrap();
                let mut pairs = Vec::new();
                let mut failed = None;
                while (pairs.len() as u64) < with.number("count").unwrap() {
                    match wait!(scan.next()) {
                        Some(Ok((key, value))) => pairs.push(json!([hex(&key), hex(&value)])),
                        Some(Err(error)) => {
                            failed = Some(error);
                            break;
                        }
                        None => break,
                    }
                }
                self.scans.lock().unwrap().insert(with.text("scan").into(), scan);
                match failed {
                    Some(error) => Err(error),
                    None if pairs.is_empty() => Ok(json!({ "pairs": null })),
                    None => Ok(json!({ "pairs": pairs })),
                }
            }
        }

        $($async)? fn import_many(client: &$flavour::Client, with: &With<'_>) -> Result<Value> {
            let blocks = with.0["blocks"].as_array().unwrap().iter().map(|block| NewBlock::from_json(block).unwrap());
            let blocks: Vec<NewBlock> = blocks.collect();
            let mut results = Vec::new();
            let mut imports = client.import_many(blocks);
            while let Some(result) = wait!(imports.next()) {
                let mut line = match result {
                    Ok(imported) => {
                        let mut line = imported.to_json();
                        line["status"] = json!(if imported.new { 201 } else { 200 });
                        line
                    }
                    Err(error) if error.line.is_none() => return Err(error),
                    Err(error) => json!({"status": error.status, "error": common::problem(&error)}),
                };
                line["line"] = json!(results.len() + 1);
                results.push(line);
            }
            Ok(json!({ "results": results }))
        }

        $($async)? fn reads(client: &$flavour::Client, what: &str, with: &With<'_>) -> Result<Value> {
            let view = client.at(with.text("at"));
            let result = match what {
                "get" => json!({"value": optional(wait!(view.get(with.key()))?)}),
                "has" => json!({"present": wait!(view.contains(with.key()))?}),
                "get_many" => json!({"values": list(wait!(view.get_many(with.keys()))?)}),
                "changes" => wait!(view.changes())?.to_json(),
                "prove" => {
                    let proof = match with.0.get("keys") {
                        Some(_) => wait!(view.prove(with.keys())),
                        None => {
                            let (from, to) = (with.bytes("from"), with.bytes("to"));
                            let max = with.number("max").map(|n| n as u32);
                            wait!(view.prove_range(&from.unwrap_or_default(), &to.unwrap_or(vec![0xff; 31]), max))
                        }
                    };
                    json!({"proof": hex(&proof?)})
                }
                "verified_get" => {
                    json!({"value": optional(wait!(view.verified(with.hash("root")).get(with.key()))?)})
                }
                "verified_get_many" => {
                    json!({"values": list(wait!(view.verified(with.hash("root")).get_many(with.keys()))?)})
                }
                "scan" if with.flag("values") == Some(false) => {
                    let mut keys = view.keys(with.scan());
                    let mut pairs = Vec::new();
                    while let Some(key) = wait!(keys.next()) {
                        pairs.push(json!([hex(&key?), null]));
                    }
                    json!({ "pairs": pairs })
                }
                "scan" | "verified_scan" => {
                    let mut scan = match what {
                        "scan" => view.scan(with.scan()),
                        _ => {
                            // In bytes; the client reckons with 512 for a pair and its nodes.
                            let page = with.number("page").map_or(1000, |n| n as usize / 512);
                            view.verified(with.hash("root")).scan(ScanOptions { page, ..with.scan() })
                        }
                    };
                    let mut pairs = Vec::new();
                    while let Some(pair) = wait!(scan.next()) {
                        let (key, value) = pair?;
                        pairs.push(json!([hex(&key), hex(&value)]));
                    }
                    json!({ "pairs": pairs })
                }
                _ => panic!("the operation {what} is not known"),
            };
            about(view.about(), result)
        }

        $($async)? fn drafts(client: &$flavour::Client, what: &str, with: &With<'_>) -> Result<Value> {
            let slot = with.number("slot").unwrap_or_default() as u32;
            let options =
                DraftOptions { owner: with.0["owner"].as_str().map(String::from), ttl: with.millis("ttl_ms") };
            let commit = || CommitOptions {
                post_root: with.0["post_root"].as_str().map(|_| with.hash("post_root")),
                header: with.bytes("header"),
            };
            if what == "draft" {
                let draft = wait!(client.begin_draft(with.text("parent"), slot, &options))?;
                let info = draft.begun().unwrap().to_json();
                draft.keep();
                return Ok(info);
            }
            if what == "draft_scope" {
                let mut draft = wait!(client.begin_draft(with.text("parent"), slot, &options))?;
                let id = draft.id().to_string();
                wait!(draft.write(&with.puts(), &[]))?;
                if with.0["commit"].is_string() {
                    wait!(draft.commit(with.hash("commit"), &commit()))?;
                }
                drop(draft);
                // In the background of a runtime.
                while wait!(client.drafts())?.iter().any(|draft| draft.id == id) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                return Ok(json!({ "id": id }));
            }
            let mut draft = client.draft(with.text("draft"));
            let done = match what {
                "draft_info" => return Ok(wait!(draft.info())?.to_json()),
                "draft_renew" => return Ok(wait!(draft.renew(with.millis("ttl_ms")))?.to_json()),
                "draft_get" => return Ok(json!({"value": optional(wait!(draft.get(with.key()))?)})),
                "draft_get_many" => return Ok(json!({"values": list(wait!(draft.get_many(with.keys()))?)})),
                "draft_commit" => return Ok(wait!(draft.commit(with.hash("hash"), &commit()))?.to_json()),
                "draft_drop" => wait!(draft.discard()),
                "draft_put" => wait!(draft.put(with.key(), &with.bytes("value").unwrap())),
                "draft_delete" => wait!(draft.delete(with.key())),
                "draft_write" => wait!(draft.write(&with.puts(), &with.dels())),
                _ => panic!("the operation {what} is not known"),
            };
            done.map(|()| json!({}))
        }

        $($async)? fn erasure(client: &$flavour::Client, what: &str, with: &With<'_>) -> Result<Value> {
            let spec = || Spec::from_json(&with.0["spec"]).unwrap();
            let index = with.number("index").unwrap_or_default() as u32;
            match what {
                "encode" => {
                    let segments = with.texts("segments");
                    let segments: Vec<Vec<u8>> = segments.iter().map(|text| from_hex(text).unwrap()).collect();
                    let keep = match &with.0["keep"] {
                        Value::Null => Keep::Nothing,
                        Value::String(_) => Keep::All,
                        list => Keep::Some(serde_json::from_value(list.clone()).unwrap()),
                    };
                    let (bundle, shards) = (with.bytes("bundle").unwrap(), with.number("shards").unwrap());
                    Ok(wait!(client.encode(&bundle, &segments, shards as u32, &keep))?.to_json())
                }
                "bundle" => Ok(json!({"bundle": hex(&wait!(client.bundle(&spec()))?)})),
                "segment" => Ok(json!({"segment": hex(&wait!(client.segment(&spec(), index))?)})),
                "shard" => {
                    let shard = wait!(client.shard(with.hash("erasure_root"), index))?;
                    let (bundle, segments) = (hex(&shard.bundle), hex(&shard.segments));
                    Ok(json!({"bundle": bundle, "segments": segments, "justification": hex(&shard.justification)}))
                }
                _ => {
                    let shard = With(&with.0["shard"]);
                    let part = |name| shard.bytes(name).unwrap();
                    let shard = Shard {
                        bundle: part("bundle"),
                        segments: part("segments"),
                        justification: part("justification"),
                    };
                    wait!(client.put_shard(&spec(), index, &shard)).map(|()| json!({}))
                }
            }
        }

        $($async)? fn pins(client: &$flavour::Client, what: &str, with: &With<'_>) -> Result<Value> {
            let ttl = with.millis("ttl_ms").unwrap_or_default();
            let options =
                PinOptions { owner: with.0["owner"].as_str().map(String::from), directory: with.flag("directory") };
            match what {
                "pin" => {
                    let pin = wait!(client.pin(with.text("block"), ttl, &options))?;
                    let info = pin.made().unwrap().to_json();
                    pin.keep();
                    Ok(info)
                }
                "pin_renew" => Ok(wait!(client.pinned(with.text("pin")).renew(ttl))?.to_json()),
                "unpin" => wait!(client.pinned(with.text("pin")).release()).map(|()| json!({})),
                _ => {
                    let pin = wait!(client.pin(with.text("block"), ttl, &options))?;
                    let id = pin.id().to_string();
                    drop(pin);
                    while wait!(client.pins())?.iter().any(|pin| pin.id == id) {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    Ok(json!({ "id": id }))
                }
            }
        }
    };
}

mod blocking {
    use super::*;
    use accessor_client as flavour;

    macro_rules! wait {
        ($done:expr) => {
            $done
        };
    }

    operations!(flavour,);

    impl Operate for Clients {
        fn connect(&self, name: &str, address: &str) {
            self.add(name, address);
        }

        fn operate(&self, client: &str, what: &str, with: &Value) -> Result<Value> {
            Clients::operate(self, client, what, with)
        }
    }

    #[test]
    fn scenarios() {
        common::run_all("blocking", Clients::new);
    }
}

#[cfg(feature = "tokio")]
mod asynchronous {
    use super::*;
    use accessor_client::tokio as flavour;

    macro_rules! wait {
        ($future:expr) => {
            $future.await
        };
    }

    operations!(flavour, async);

    /// The clients, with the runtime that they live in.
    struct InRuntime(Clients, tokio::runtime::Runtime);

    impl Operate for InRuntime {
        fn connect(&self, name: &str, address: &str) {
            self.0.add(name, address);
        }

        fn operate(&self, client: &str, what: &str, with: &Value) -> Result<Value> {
            self.1.block_on(self.0.operate(client, what, with))
        }
    }

    #[test]
    fn scenarios() {
        common::run_all("tokio", || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
            InRuntime(Clients::new(), runtime.unwrap())
        });
    }

    /// Futures can be spawned.
    #[test]
    fn futures_are_send() {
        fn send<T: Send>(_: T) {}
        let client = flavour::Client::new("nowhere.sock").unwrap();
        send(client.at("head").get("slot"));
        send(client.at("head").get_many(["slot"]));
        send(client.at("head").verified(Hash([0; 32])).get("slot"));
        send(client.at("head").scan(ScanOptions::default()).next());
        send(client.import(&NewBlock::default()));
        send(client.import_many([]).next());
        send(client.begin_draft("head", 1, &DraftOptions::default()));
        send(client.events(EventOptions::default()));
        send(client.item(Hash([0; 32])));
        send(client.put_item([0]));
        let _ = Kind::Connection;
    }
}
