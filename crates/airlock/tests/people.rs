//! Who may do what: users with roles and tokens, acts that need two persons, and those that somebody did alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::process::Command;

use common::{Answer, NOW, Station, World, airlock};
use serde_json::{Value, json};

/// A station with a few people, whose tokens are known here.
struct House {
    world: World,
    station: Station,
    tokens: BTreeMap<&'static str, String>,
}

const PEOPLE: [(&str, &str); 6] = [
    ("olga", "security-officer"),
    ("oskar", "security-officer"),
    ("rita", "reviewer"),
    ("vera", "viewer"),
    ("adam", "administrator"),
    ("audrey", "auditor"),
];

impl House {
    async fn new(two_person: &str) -> Self {
        let world = World::new().await;
        let station = world.connected("low");
        station.run(&["sync"]).exits(0);
        let mut tokens = BTreeMap::new();
        for (name, role) in PEOPLE {
            station.run(&["user", "add", name, "--role", role]).exits(0);
            let token = station.json(&["token", "add", name])["secret"].as_str().unwrap().to_owned();
            assert!(token.starts_with("airlock_") && token.len() == 72, "{token}");
            tokens.insert(name, token);
        }
        let config = station.dir.join("airlock.toml");
        let text = std::fs::read_to_string(&config).unwrap()
            + &format!("\n[people]\nrequire_login = true\ntwo_person = [{two_person}]\n");
        std::fs::write(config, text).unwrap();
        Self { world, station, tokens }
    }

    /// Runs as a user, with that user's token.
    fn run(&self, user: &str, args: &[&str]) -> Answer {
        self.with(user, &self.tokens[user], args)
    }

    fn with(&self, user: &str, token: &str, args: &[&str]) -> Answer {
        let output = Command::new(env!("CARGO_BIN_EXE_airlock"))
            .args(["--station", self.station.dir.to_str().unwrap(), "--now", NOW, "--as", user])
            .args(args)
            .env("USER", "root (token, as x)")
            .env("AIRLOCK_TOKEN", token)
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        for token in self.tokens.values() {
            assert!(!stdout.contains(token) && !stderr.contains(token), "a token was repeated");
        }
        Answer { status: output.status.code().unwrap(), stdout, stderr }
    }

    fn entries(&self) -> Vec<Value> {
        let log = self.run("audrey", &["--json", "ledger", "log"]).exits(0).json();
        log["entries"].as_array().unwrap().iter().map(|e| e["entry"].clone()).collect()
    }

    fn actions(&self) -> Vec<String> {
        self.entries().iter().map(|e| e["action"].as_str().unwrap().to_owned()).collect()
    }
}

const WAIVE: [&str; 13] = [
    "review",
    "waive",
    "main",
    "--scope",
    "idna",
    "--rule",
    "cvss-above-7",
    "--advisory",
    "PYSEC-2024-60",
    "--expires",
    "2026-04-01",
    "--reason",
    "only used offline",
];

#[tokio::test]
async fn roles_bind_whoever_shows_a_token_and_nothing_changes_without_one() {
    let house = House::new("").await;
    let block = ["block", "main", "other", "--reason", "r"];
    house.station.run(&block).exits(1).says("asks who you are before anything changes");
    house.station.run(&["explain", "main", "other"]).exits(0);
    house.station.run(&["judge"]).exits(1).says("asks who you are");
    house.run("vera", &["judge"]).exits(1).says("vera may not sync");
    house.run("vera", &["blast", "main"]).exits(1).says("vera may not ledger");
    house
        .run("rita", &["review", "baseline", "main", "--expires", "2026-04-01", "--reason", "r"])
        .exits(1)
        .says("rita may not waive");
    house.run("adam", &["channel", "set", "main", "--policy", "inherited"]).exits(2);
    house
        .run("olga", &["channel", "set", "main", "--shadow", "default"])
        .exits(1)
        .says("olga may not channel");
    house
        .run("vera", &block)
        .exits(1)
        .says("vera may not block in channel main")
        .says("reviewer, security-officer");
    house.run("audrey", &block).exits(1);
    house.run("rita", &WAIVE).exits(1).says("rita may not waive");
    house.run("adam", &WAIVE).exits(1).says("adam may not waive");
    house.run("olga", &["user", "add", "eve", "--role", "administrator"]).exits(1);
    house.run("vera", &["user", "list"]).exits(1);
    house.run("vera", &["ledger", "log"]).exits(1).says("may not ledger");
    house.run("rita", &["sync"]).exits(1);
    house.run("adam", &["policy", "set", "default", "ready:strict-fail-closed"]).exits(1);
    house.run("olga", &WAIVE).exits(0);
    house.run("rita", &block).exits(0);
    // Lifting is not for whoever may deny.
    house.run("rita", &["review", "revoke", "d2", "--reason", "r"]).exits(1).says("rita may not lift");
    house.run("olga", &["review", "revoke", "d2", "--reason", "r"]).exits(0);
    // Both are recorded, and no environment makes an operating-system user look like another.
    let entries = house.entries();
    let waived = entries.iter().find(|e| e["action"] == "decision.add").unwrap();
    assert_eq!(waived["actor"], "olga (token, as root__token__as_x_)");
    assert_eq!(waived["detail"]["author"], waived["actor"]);
    house.run("audrey", &["user", "list"]).exits(0).shows("rita    reviewer");
    house.run("audrey", &["ledger", "verify"]).exits(0);
}

#[tokio::test]
async fn a_role_in_a_channel_is_one_there_and_below_and_nowhere_else() {
    let house = House::new("").await;
    house.run("adam", &["channel", "add", "main/dev"]).exits(0);
    house.run("olga", &["policy", "set", "lax", "ready:cool-off-14-days"]).exits(0);
    let lax = ["channel", "add", "main/lax", "--policy", "lax"];
    house.run("adam", &lax).exits(1).says("adam may not policy");
    house.run("adam", &["channel", "set", "main", "--policy", "lax"]).exits(1).says("adam may not policy");
    house.run("adam", &["user", "add", "mia"]).exits(0);
    house.run("adam", &["user", "grant", "mia", "reviewer", "--channel", "main"]).exits(0);
    let token =
        house.run("adam", &["--json", "token", "add", "mia"]).json()["secret"].as_str().unwrap().to_owned();
    let reject = |channel| ["review", "reject", channel, "--scope", "other", "--reason", "r"];
    house.with("mia", &token, &reject("main/dev")).exits(0);
    house.with("mia", &token, &reject("main")).exits(0);
    house.with("mia", &token, &reject("py")).exits(1).says("was given for other channels");
    house.run("adam", &["user", "revoke", "mia", "reviewer", "--channel", "main"]).exits(0);
    house.with("mia", &token, &reject("main")).exits(1).says("no role that they have");
}

#[tokio::test]
async fn a_wrong_an_ended_and_a_revoked_token_are_refused_and_no_token_is_kept_anywhere() {
    let house = House::new("").await;
    let see = ["user", "list"];
    let refused = "no user of this name has this token";
    house.with("adam", "airlock_00", &see).exits(3).says(refused);
    house.with("olga", &house.tokens["adam"], &see).exits(3).says(refused);
    house.with("nobody", &house.tokens["adam"], &see).exits(3).says(refused);
    let short = house.run("adam", &["--json", "token", "add", "vera", "--expires", "2026-03-02"]).json();
    let secret = short["secret"].as_str().unwrap();
    house.with("vera", secret, &["explain", "main", "other"]).exits(0);
    let later = Command::new(env!("CARGO_BIN_EXE_airlock"))
        .args([
            "--station",
            house.station.dir.to_str().unwrap(),
            "--now",
            "2026-03-02T00:00:00Z",
            "--as",
            "vera",
            "status",
        ])
        .env("AIRLOCK_TOKEN", secret)
        .output()
        .unwrap();
    assert_eq!(later.status.code(), Some(3));
    house.run("adam", &["token", "revoke", "vera", "t1"]).exits(0);
    house.run("vera", &["status"]).exits(3);
    house.run("adam", &["user", "remove", "rita"]).exits(0);
    house.run("rita", &["status"]).exits(3);
    // A file takes the place of the environment.
    let file = house.world.path("token");
    std::fs::write(&file, format!("{}\n", house.tokens["adam"])).unwrap();
    let dir = house.station.dir.to_str().unwrap();
    airlock(&[
        "--station",
        dir,
        "--now",
        NOW,
        "--as",
        "adam",
        "--token-file",
        file.to_str().unwrap(),
        "user",
        "list",
    ])
    .exits(0)
    .shows("adam");
    airlock(&["--station", dir, "--now", NOW, "--as", "adam", "user", "list"])
        .exits(2)
        .says("the token of `adam` is missing");
    // Nowhere in the station's files: neither the database nor its log.
    for path in common::files(&house.station.dir).into_keys() {
        let bytes = std::fs::read(&path).unwrap();
        for token in house.tokens.values() {
            let digits = &token.as_bytes()[8..];
            assert!(!bytes.windows(digits.len()).any(|w| w == digits), "{}", path.display());
        }
    }
}

#[tokio::test]
async fn what_needs_two_persons_is_done_when_another_one_confirms_it_and_not_before() {
    let house = House::new("\"waive\", \"policy\", \"rollback\", \"trust\"").await;
    house
        .run("olga", &WAIVE)
        .exits(1)
        .says("waits for a second person: waive cvss-above-7")
        .says("nothing was changed");
    let shown = house.run("audrey", &["--json", "proposals", "list"]).json();
    let id = shown["proposals"][0]["id"].as_str().unwrap().to_owned();
    let confirm = ["proposals", "confirm", id.as_str()];
    // Whoever has a role in one channel alone sees what they may confirm there.
    house.run("adam", &["user", "add", "mia", "--role", "security-officer", "--channel", "main"]).exits(0);
    let mia =
        house.run("adam", &["--json", "token", "add", "mia"]).json()["secret"].as_str().unwrap().to_owned();
    let listed = house.with("mia", &mia, &["proposals", "list"]).exits(0);
    listed.shows("for idna in main").shows("until 2026-04-01: only used offline");
    house.with("mia", &mia, &["proposals", "show", &id]).exits(0).shows("PYSEC-2024-60");
    // Where a right is missing in one channel, nothing is judged in any.
    let before = house.actions().len();
    house.with("mia", &mia, &["judge", "--anew"]).exits(1).says("mia may not sync");
    assert_eq!(house.actions().len(), before);
    // Not its own person, also not by another token; not who has no right; not without a token.
    house.run("olga", &confirm).exits(1).says("needs another person");
    let second =
        house.run("adam", &["--json", "token", "add", "olga"]).json()["secret"].as_str().unwrap().to_owned();
    house.with("olga", &second, &confirm).exits(1).says("needs another person");
    house.run("rita", &confirm).exits(1).says("rita may not waive");
    house.station.run(&confirm).exits(1).says("has to be known by a token");
    house.run("vera", &["explain", "main", "idna=3.6"]).exits(1);
    house.run("oskar", &confirm).exits(0);
    house.run("adam", &["sync"]).exits(0);
    house.run("vera", &["explain", "main", "idna=3.6"]).exits(0).shows("waived by decision d1");
    let entries = house.entries();
    let decided = entries.iter().find(|e| e["action"] == "decision.add").unwrap();
    assert_eq!(decided["actor"], "olga (token), confirmed by oskar (token, as root__token__as_x_)");
    house.run("oskar", &confirm).exits(2).says("no proposal");
    // What denies waits for nobody, and neither does taking back what lifted something.
    house.run("olga", &["review", "revoke", "d1", "--reason", "r"]).exits(0);
    house.run("rita", &["block", "main", "other", "--reason", "r"]).exits(0);
    house.run("audrey", &["ledger", "verify"]).exits(0);
    // A policy is set by two; what was proposed for another one is not.
    let set = ["policy", "set", "default", "ready:healthcare-cvss7"];
    house.run("olga", &set).exits(1);
    house.run("oskar", &["policy", "set", "default", "ready:strict-fail-closed"]).exits(1);
    let waiting = house.run("audrey", &["--json", "proposals", "list"]).json();
    let ids: Vec<&str> =
        waiting["proposals"].as_array().unwrap().iter().map(|p| p["id"].as_str().unwrap()).collect();
    house.run("oskar", &["proposals", "confirm", ids[0]]).exits(0);
    house.run("olga", &["proposals", "confirm", ids[1]]).exits(1).says("policy/default is another since");
    house.run("olga", &["proposals", "withdraw", ids[1]]).exits(0);
    house.run("audrey", &["proposals", "list"]).exits(0).shows("Nothing waits");
    house.run("audrey", &["policy", "show", "default"]).exits(0).shows("healthcare-cvss7");
    // One whose right was taken meanwhile proposed nothing any more.
    house.run("olga", &["policy", "set", "default", "ready:cool-off-14-days"]).exits(1);
    house.run("adam", &["user", "revoke", "olga", "security-officer"]).exits(0);
    let waiting = house.run("audrey", &["--json", "proposals", "list"]).json();
    let id = waiting["proposals"][0]["id"].as_str().unwrap();
    house
        .run("oskar", &["proposals", "confirm", id])
        .exits(1)
        .says("whoever proposed it")
        .says("olga may not policy");
    house.run("oskar", &["proposals", "withdraw", id]).exits(0);
    house.run("olga", &["--break-glass", "   ", "status"]).exits(2).says("needs a reason");
    house.run("olga", &["--break-glass", "a\u{1b}[2Jb", "status"]).exits(2).says("text on one line");
}

#[tokio::test]
async fn what_is_done_alone_in_need_is_shown_until_another_person_looked_at_it() {
    let house = House::new("\"waive\"").await;
    let alone = [&["--break-glass", "production is down"][..], &WAIVE].concat();
    house.run("rita", &alone).exits(1).says("rita may not waive");
    house.run("olga", &alone).exits(0);
    house.run("adam", &["sync"]).exits(0);
    house.run("vera", &["explain", "main", "idna=3.6"]).exits(0);
    let status = house.run("vera", &["--json", "status"]).json();
    let broken = &status["broken_glass"][0];
    assert_eq!((&broken["by"], &broken["reason"]), (&json!("olga"), &json!("production is down")));
    house.run("vera", &["status"]).exits(0).shows("Done by olga alone and not looked at yet");
    house.run("rita", &["review", "queue", "main"]).exits(0).shows("was done by olga alone");
    let server = house.station.serve();
    let (_, page) = server.get("", "text/html");
    assert!(String::from_utf8(page).unwrap().contains("Done by one person alone"));
    let id = broken["proposal"].as_str().unwrap();
    let review = ["proposals", "review", id, "--reason", "it was right"];
    house.run("olga", &review).exits(1).says("needs another person");
    house.run("oskar", &["proposals", "confirm", id]).exits(2).says("was done already");
    house.run("oskar", &review).exits(0);
    assert_eq!(house.run("vera", &["--json", "status"]).json()["broken_glass"], json!([]));
    let actions = house.actions();
    for action in ["proposal.break-glass", "decision.add", "proposal.review"] {
        assert!(actions.iter().any(|a| a == action), "{action}: {actions:?}");
    }
    let config = house.station.dir.join("airlock.toml");
    let text = std::fs::read_to_string(&config).unwrap().replace("\"waive\"", "\"block\"");
    std::fs::write(config, text).unwrap();
    house.run("vera", &["status"]).exits(2).says("`block` cannot be put under two persons");
}

#[tokio::test]
async fn a_new_station_has_an_administrator_whose_token_is_shown_once() {
    let world = World::new().await;
    let dir = world.path("new");
    let made = airlock(&["--json", "init", dir.to_str().unwrap(), "--now", NOW]).exits(0).json();
    assert_eq!(made["administrator"], "ada");
    let output = Command::new(env!("CARGO_BIN_EXE_airlock"))
        .args(["--station", dir.to_str().unwrap(), "--now", NOW, "--as", "ada", "user", "list"])
        .env("AIRLOCK_TOKEN", made["token"].as_str().unwrap())
        .output()
        .unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).unwrap().contains("ada  administrator  1 token"));
}
