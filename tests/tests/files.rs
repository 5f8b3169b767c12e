//! Files: uploaded, seen by whom they are for and by nobody else, and led to from phones.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sidetone_tests::upload::{Reply, answer, connect, fetch, form_end, form_head};
use sidetone_tests::{Api, Options, Phone, Server, until};

const PNG: &str = "image/png";

/// A grey picture, nothing compressed.
fn png(width: u32, height: u32) -> Vec<u8> {
    let row = vec![0x80_u8; width as usize + 1];
    let rows: Vec<u8> = (0..height)
        .flat_map(|_| std::iter::once(0).chain(row[1..].iter().copied()))
        .collect();
    let mut data = vec![0x78, 0x01];
    let blocks = rows.chunks(0xffff);
    let last = blocks.len() - 1;
    for (number, block) in blocks.enumerate() {
        let length = u16::try_from(block.len()).expect("a block");
        data.push(u8::from(number == last));
        data.extend(length.to_le_bytes());
        data.extend((!length).to_le_bytes());
        data.extend(block);
    }
    data.extend(adler(&rows).to_be_bytes());
    png_of(width, height, &data)
}

fn png_of(width: u32, height: u32, data: &[u8]) -> Vec<u8> {
    let mut head = [width.to_be_bytes(), height.to_be_bytes()].concat();
    head.extend([8, 0, 0, 0, 0]);
    let mut picture = b"\x89PNG\r\n\x1a\n".to_vec();
    for (name, content) in [(b"IHDR", &head[..]), (b"IDAT", data), (b"IEND", &[])] {
        let length = u32::try_from(content.len()).expect("a length");
        let named = [&name[..], content].concat();
        picture.extend(length.to_be_bytes());
        picture.extend(&named);
        picture.extend(crc(&named).to_be_bytes());
    }
    picture
}

fn crc(octets: &[u8]) -> u32 {
    let step = |crc: u32, octet: &u8| {
        (0..8).fold(crc ^ u32::from(*octet), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (0_u32.wrapping_sub(crc & 1)))
        })
    };
    !octets.iter().fold(!0, step)
}

fn adler(octets: &[u8]) -> u32 {
    let step = |(a, b): (u32, u32), octet: &u8| {
        let a = (a + u32::from(*octet)) % 65_521;
        (a, (b + a) % 65_521)
    };
    let (a, b) = octets.iter().fold((1, 0), step);
    b << 16 | a
}

/// Silence of so many milliseconds.
fn wav(ms: u32) -> Vec<u8> {
    let samples = vec![0_u8; (8 * ms * 2) as usize];
    let mut sound = b"RIFF".to_vec();
    let length = |count: usize| u32::try_from(count).expect("a length").to_le_bytes();
    sound.extend(length(36 + samples.len()));
    sound.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data");
    sound.extend(length(samples.len()));
    sound.extend(samples);
    sound
}

fn folder(server: &Server) -> PathBuf {
    server.folder().file("data/files")
}

/// What lies below a folder.
fn lying(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .flatten()
        .flat_map(|entry| match entry.path() {
            path if path.is_dir() => lying(&path),
            path => vec![path],
        })
        .collect()
}

/// A conversation of ann with these; its path.
fn begin(ann: &Api, members: &[&str]) -> String {
    let begun = ann.ask(
        "POST",
        "/api/v1/conversations",
        &json!({ "members": members }),
    );
    format!("/api/v1/conversations/{}", begun["id"])
}

fn attach(api: &Api, path: &str, file: &Value, caption: &str) -> Value {
    let body = json!({ "attachment": { "file": file["id"], "caption": caption } });
    api.ask("POST", &format!("{path}/messages"), &body)
}

fn path_of(file: &Value) -> String {
    format!("/api/v1/files/{}", file["id"])
}

fn get(api: &Api, file: &Value) -> Reply {
    api.fetch("GET", &path_of(file), "")
}

fn digest(content: &[u8]) -> String {
    let digest = Sha256::digest(content);
    digest.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[test]
fn a_file_is_for_those_who_see_the_message_that_brings_it() {
    let server = Server::with(&["ann", "bob", "chen"]);
    let [ann, bob, chen] = ["ann", "bob", "chen"].map(|name| Api::sign_in(&server, name));
    let content = b"the plan\n".repeat(50_000);
    let file = ann.upload("../båt plan.txt", "text/plain", &content);
    assert_eq!(file["name"], "båt plan.txt");
    assert_eq!(file["content_type"], "text/plain", "as it is");
    assert_eq!(file["octets"], content.len());
    assert_eq!(file["digest"], digest(&content));
    assert_eq!(get(&ann, &file).body, content);
    assert_eq!(get(&bob, &file).status, 404, "not yet");
    let path = begin(&ann, &["bob"]);
    let mut news = bob.events(None);
    attach(&ann, &path, &file, "look");
    let event = news.event("file");
    assert_eq!(event["caption"], "look");
    assert_eq!(event["file"]["id"], file["id"]);
    assert_eq!(event["file"]["digest"], file["digest"]);
    assert_eq!(event["file"]["kind"], "file");
    let got = get(&bob, &file);
    assert_eq!((got.status, got.body == content), (200, true));
    assert_eq!(get(&chen, &file).status, 404, "not hers");
    assert_eq!(fetch(server.http(), "GET", &path_of(&file), "").status, 401);
    // Whoever sees it can pass it on; whoever does not cannot.
    let theirs = begin(&chen, &["bob"]);
    let body = json!({ "attachment": { "file": file["id"] } });
    let (status, _) = chen.call("POST", &format!("{theirs}/messages"), &body);
    assert_eq!(status, 404);
    attach(&bob, &theirs, &file, "");
    assert_eq!(get(&chen, &file).body, content);
    // The same content lies on the disk once, and under another number is another's.
    let again = bob.upload("mine.txt", "text/plain", &content);
    assert_eq!(again["digest"], file["digest"]);
    assert_ne!(again["id"], file["id"]);
    assert_eq!(lying(&folder(&server)).len(), 1);
    let found = chen.ask("GET", "/api/v1/search?q=b%C3%A5t", &Value::Null);
    assert_eq!(found[0]["file"]["id"], file["id"], "by its name");
}

#[test]
fn a_file_is_read_in_parts() {
    let server = Server::with(&["ann"]);
    let ann = Api::sign_in(&server, "ann");
    let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_be_bytes).collect();
    let file = ann.upload("numbers", "application/octet-stream", &content);
    let path = path_of(&file);
    let whole = ann.fetch("GET", &path, "");
    let tag = whole.header("ETag").to_owned();
    assert_eq!(tag, format!("\"{}\"", digest(&content)));
    assert_eq!(whole.header("Accept-Ranges"), "bytes");
    for (range, first, last) in [
        ("0-0", 0, 0),
        ("131072-400000", 131_072, 400_000),
        ("1199990-", 1_199_990, 1_199_999),
        ("-4", 1_199_996, 1_199_999),
        ("5-9999999", 5, 1_199_999),
    ] {
        let part = ann.fetch("GET", &path, &format!("Range: bytes={range}\r\n"));
        assert_eq!(part.status, 206, "{range}");
        assert!(part.body == content[first..=last], "{range}");
        let said = format!("bytes {first}-{last}/1200000");
        assert_eq!(part.header("Content-Range"), said);
    }
    let beyond = ann.fetch("GET", &path, "Range: bytes=1200000-\r\n");
    assert_eq!(beyond.status, 416);
    assert_eq!(beyond.header("Content-Range"), "bytes */1200000");
    let same = format!("Range: bytes=1-2\r\nIf-Range: {tag}\r\n");
    assert_eq!(ann.fetch("GET", &path, &same).status, 206);
    let other = "Range: bytes=1-2\r\nIf-Range: \"other\"\r\n";
    assert_eq!(ann.fetch("GET", &path, other).status, 200);
    let several = ann.fetch("GET", &path, "Range: bytes=1-2,5-6\r\n");
    assert_eq!(several.status, 200, "one part at a time");
    let known = ann.fetch("GET", &path, &format!("If-None-Match: {tag}\r\n"));
    assert_eq!((known.status, known.body.len()), (304, 0));
    let head = ann.fetch("HEAD", &path, "Range: bytes=1-2\r\n");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("Content-Length"), "1200000");
}

#[test]
fn what_lies_about_its_type_is_refused() {
    let server = Server::with(&["ann"]);
    let ann = Api::sign_in(&server, "ann");
    let page = b"<!DOCTYPE html><script>alert(document.domain)</script>";
    let drawing = b"<svg xmlns=\"http://www.w3.org/2000/svg\" onload=\"alert(1)\"/>";
    for (declared, content) in [(PNG, &page[..]), (PNG, drawing), ("audio/ogg", page)] {
        let reply = ann.try_upload("holiday.png", declared, content);
        let reply = reply.expect("an answer");
        let problem = reply.json();
        assert_eq!(reply.status, 415, "{problem}");
        assert_eq!(problem["type"], "urn:sidetone:problem:not-what-it-says");
    }
    assert!(lying(&folder(&server)).is_empty(), "nothing is kept of it");
}

#[test]
fn what_may_run_is_what_it_is_and_runs_nowhere() {
    let server = Server::with(&["ann"]);
    let ann = Api::sign_in(&server, "ann");
    let page = b"<!DOCTYPE html><script>alert(document.domain)</script>";
    let drawing = b"<svg xmlns=\"http://www.w3.org/2000/svg\" onload=\"alert(1)\"/>";
    for (content, is) in [(&page[..], "text/html"), (drawing, "image/svg+xml")] {
        let file = ann.upload("holiday.png", "application/octet-stream", content);
        assert_eq!(file["content_type"], is);
        assert_eq!(file["thumbnail"], false);
        let got = get(&ann, &file);
        assert_eq!(got.header("Content-Type"), is);
        assert!(got.header("Content-Disposition").starts_with("attachment;"));
        assert_eq!(got.header("X-Content-Type-Options"), "nosniff");
        let policy = got.header("Content-Security-Policy");
        assert!(policy.contains("default-src 'none'") && policy.contains("sandbox"));
    }
    let picture = ann.upload("page.html", "text/html", &png(4, 4));
    assert_eq!(picture["content_type"], PNG);
    let got = get(&ann, &picture);
    assert!(got.header("Content-Disposition").starts_with("inline;"));
    assert!(got.header("Content-Security-Policy").contains("sandbox"));
}

#[test]
fn pictures_have_a_size_and_a_small_one_and_sound_has_a_length() {
    let server = Server::with(&["ann", "bob"]);
    let (ann, bob) = (Api::sign_in(&server, "ann"), Api::sign_in(&server, "bob"));
    let path = begin(&ann, &["bob"]);
    let picture = ann.upload("p.png", PNG, &png(1_000, 500));
    assert_eq!(
        (&picture["width"], &picture["height"]),
        (&json!(1_000), &json!(500))
    );
    assert_eq!(picture["thumbnail"], true);
    let small_path = format!("{}/thumbnail", path_of(&picture));
    assert_eq!(bob.fetch("GET", &small_path, "").status, 404, "not yet");
    attach(&ann, &path, &picture, "");
    let small = bob.fetch("GET", &small_path, "");
    assert_eq!(small.status, 200);
    assert_eq!(small.header("Content-Type"), "image/jpeg");
    assert!(small.body.starts_with(b"\xff\xd8\xff"));
    let sound = ann.upload("s.wav", "audio/wav", &wav(2_500));
    assert_eq!(sound["content_type"], "audio/wav");
    assert_eq!(sound["duration_ms"], 2_500);
    let note = json!({ "attachment": { "file": sound["id"], "voice_note": true } });
    ann.ask("POST", &format!("{path}/messages"), &note);
    let log = bob.ask("GET", &format!("{path}/events"), &Value::Null);
    let kinds: Vec<&Value> = log
        .as_array()
        .expect("a list")
        .iter()
        .map(|e| &e["file"]["kind"])
        .collect();
    assert_eq!(
        kinds,
        [&Value::Null, &json!("picture"), &json!("voice_note")]
    );
    // One that begins like a picture and is none is a file like any other.
    let broken = ann.upload("b.png", PNG, &png(100, 100)[..80]);
    assert_eq!(broken["content_type"], PNG);
    assert_eq!(broken["thumbnail"], false);
}

#[test]
fn a_picture_bomb_is_refused() {
    let server = Server::with(&["ann"]);
    let ann = Api::sign_in(&server, "ann");
    let bomb = png_of(50_000, 50_000, &[0x78, 0x01, 0x03, 0x00]);
    let reply = ann.try_upload("bomb.png", PNG, &bomb).expect("an answer");
    assert_eq!(reply.status, 422);
    assert_eq!(
        reply.json()["type"],
        "urn:sidetone:problem:impossible-picture"
    );
    assert!(lying(&folder(&server)).is_empty());
}

#[test]
fn what_is_too_large_is_cut_off_and_leaves_nothing() {
    let server = Options::new()
        .users(&["ann"])
        .set("files.max_bytes", 1_000_000)
        .start();
    let ann = Api::sign_in(&server, "ann");
    ann.upload("fits", "", &vec![1; 1_000_000]);
    let before = lying(&folder(&server));
    let refused = ann.try_upload("more", "", &vec![2; 1_000_001]);
    assert_eq!(refused.expect("an answer").status, 413);
    // Told beforehand: nothing of it is read.
    let mut stream = connect(server.http()).expect("the server");
    let head = ann.upload_head("Content-Length: 5000000000");
    stream.write_all(head.as_bytes()).expect("sent");
    let reply = answer(stream).expect("an answer");
    assert_eq!(reply.status, 413);
    assert_eq!(reply.json()["type"], "urn:sidetone:problem:too-large");
    // Not told: it is cut off on its way.
    let mut stream = connect(server.http()).expect("the server");
    let head = ann.upload_head("Transfer-Encoding: chunked");
    stream.write_all(head.as_bytes()).expect("sent");
    let mut chunk = |octets: &[u8]| {
        let framed = [
            format!("{:x}\r\n", octets.len()).as_bytes(),
            octets,
            b"\r\n",
        ]
        .concat();
        stream.write_all(&framed)
    };
    chunk(form_head("endless", PNG).as_bytes()).expect("sent");
    let piece = vec![3; 65_536];
    let sent = (0..80_000).take_while(|_| chunk(&piece).is_ok()).count();
    assert!(sent < 1_000, "{sent} pieces were taken");
    assert_eq!(answer(stream).map(|reply| reply.status), Some(413));
    let gone = until(Duration::from_secs(5), || {
        (lying(&folder(&server)) == before).then_some(())
    });
    assert!(gone.is_some(), "{:?}", lying(&folder(&server)));
}

#[test]
fn forms_that_are_none_are_refused_and_leave_nothing() {
    let server = Server::with(&["ann"]);
    let ann = Api::sign_in(&server, "ann");
    let send = |body: &[u8]| {
        let mut stream = connect(server.http()).expect("the server");
        let head = ann.upload_head(&format!("Content-Length: {}", body.len()));
        stream.write_all(head.as_bytes()).expect("sent");
        stream.write_all(body).expect("sent");
        answer(stream).expect("an answer").status
    };
    assert_eq!(send(b""), 400);
    assert_eq!(send(b"no form at all"), 400);
    assert_eq!(send(form_end().as_bytes()), 400, "no part");
    let unnamed = form_head("x", "").replace("\"file\"", "\"other\"");
    assert_eq!(send(format!("{unnamed}x{}", form_end()).as_bytes()), 400);
    let endless = [
        form_head("x", "")
            .replace("\r\n\r\n", "\r\nX: ")
            .into_bytes(),
        vec![b'a'; 900_000],
    ];
    assert_eq!(send(&endless.concat()), 400, "a head without an end");
    let part = form_head("x", "");
    let two = format!("{part}one\r\n{part}two{}", form_end());
    assert_eq!(send(two.as_bytes()), 400, "one at a time");
    let json = ann.call("POST", "/api/v1/files", &json!({ "file": "x" }));
    assert_eq!(json.0, 415);
    // One that ends in the middle was never there.
    let mut stream = connect(server.http()).expect("the server");
    let head = ann.upload_head("Content-Length: 1000000");
    stream.write_all(head.as_bytes()).expect("sent");
    stream.write_all(part.as_bytes()).expect("sent");
    stream.write_all(&[7; 500_000]).expect("sent");
    let incoming = folder(&server).join("incoming");
    until(Duration::from_secs(5), || lying(&incoming).pop()).expect("a file on its way");
    drop(stream);
    let gone = until(Duration::from_secs(5), || {
        lying(&folder(&server)).is_empty().then_some(())
    });
    assert!(gone.is_some());
}

#[test]
fn an_account_uploads_so_much_and_no_more() {
    let server = Options::new()
        .users(&["ann", "bob"])
        .set("files.account_bytes", 150_000)
        .start();
    let (ann, bob) = (Api::sign_in(&server, "ann"), Api::sign_in(&server, "bob"));
    let slow = || {
        let mut stream = connect(server.http()).expect("the server");
        let head = ann.upload_head("Content-Length: 100000");
        let begun = [head, form_head("slow", "")].concat();
        stream.write_all(begun.as_bytes()).expect("sent");
        stream
    };
    let under_way: Vec<_> = (0..4).map(|_| slow()).collect();
    let incoming = folder(&server).join("incoming");
    until(Duration::from_secs(5), || {
        (lying(&incoming).len() == under_way.len()).then_some(())
    })
    .expect("files on their way");
    let fifth = ann.try_upload("fifth", "", b"x").expect("an answer");
    assert_eq!(fifth.status, 429);
    assert!(!fifth.header("Retry-After").is_empty());
    bob.upload("another's", "", b"x");
    drop(under_way);
    let ended = until(Duration::from_secs(5), || {
        let reply = ann.try_upload("first", "", &[1; 100_000])?;
        (reply.status == 201).then_some(())
    });
    ended.expect("the place of the first");
    let reply = ann
        .try_upload("second", "", &[2; 100_000])
        .expect("an answer");
    assert_eq!(reply.status, 413);
    assert_eq!(reply.json()["type"], "urn:sidetone:problem:no-room-left");
    ann.upload("a little", "", &[3; 10_000]);
}

#[test]
fn what_came_before_a_members_horizon_is_not_given() {
    let server = Server::with(&["ann", "bob", "chen"]);
    let (ann, chen) = (Api::sign_in(&server, "ann"), Api::sign_in(&server, "chen"));
    let path = begin(&ann, &["bob"]);
    let [before, after] = ["before", "after"].map(|name| ann.upload(name, "", name.as_bytes()));
    attach(&ann, &path, &before, "");
    ann.ask(
        "POST",
        &format!("{path}/members"),
        &json!({ "address": "chen" }),
    );
    let said = attach(&ann, &path, &after, "");
    assert_eq!(get(&chen, &before).status, 404);
    assert_eq!(get(&chen, &after).body, b"after");
    // What was taken back is given to nobody but whose it is.
    let message = format!("{path}/messages/{}", said["seq"]);
    ann.ask("DELETE", &message, &Value::Null);
    assert_eq!(get(&chen, &after).status, 404);
    assert_eq!(get(&ann, &after).status, 200);
    // Who has left goes on seeing what came until then, and nothing that came later.
    let [then, later] = ["then", "later"].map(|name| ann.upload(name, "", name.as_bytes()));
    attach(&ann, &path, &then, "");
    ann.ask("DELETE", &format!("{path}/members/chen"), &Value::Null);
    attach(&ann, &path, &later, "");
    assert_eq!(get(&chen, &then).status, 200);
    assert_eq!(get(&chen, &later).status, 404);
}

/// The path of the link in a text.
fn link(text: &str) -> String {
    let start = text.find("/f/").expect("a link");
    text[start..]
        .split_whitespace()
        .next()
        .expect("a link")
        .to_owned()
}

#[test]
fn a_phone_gets_a_link_that_needs_no_password() {
    let server = Server::with(&["ann", "bob"]);
    let ann = Api::sign_in(&server, "ann");
    let mut bob = Phone::udp(&server, "bob").registered();
    let path = begin(&ann, &["bob"]);
    let content = b"%PDF-1.7 of a kind";
    let file = ann.upload("plan.pdf", "", content);
    let said = attach(&ann, &path, &file, "look");
    let message = bob.expect("MESSAGE");
    bob.answer(&message, 200);
    let text = message.text();
    let start = format!("look\nplan.pdf (18 B): https://{}/f/", server.https());
    assert!(text.starts_with(&start), "{text}");
    let link = link(&text);
    let got = fetch(server.http(), "GET", &link, "");
    assert_eq!((got.status, &got.body[..]), (200, &content[..]));
    assert_eq!(got.header("Content-Type"), "application/pdf");
    assert!(got.header("Content-Disposition").starts_with("attachment;"));
    let part = fetch(server.http(), "GET", &link, "Range: bytes=1-3\r\n");
    assert_eq!((part.status, &part.body[..]), (206, &b"PDF"[..]));
    // Changed anywhere, it leads nowhere.
    for at in 3..link.len() {
        let mut forged = link.clone().into_bytes();
        forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
        let forged = String::from_utf8(forged).expect("ASCII");
        assert_eq!(
            fetch(server.http(), "GET", &forged, "").status,
            404,
            "{forged}"
        );
    }
    // A link is for one message: taken back, it leads nowhere, whatever else brings the file.
    attach(&ann, &path, &file, "");
    let message = bob.expect("MESSAGE");
    bob.answer(&message, 200);
    ann.ask(
        "DELETE",
        &format!("{path}/messages/{}", said["seq"]),
        &Value::Null,
    );
    assert_eq!(fetch(server.http(), "GET", &link, "").status, 404);
    let other = self::link(&message.text());
    assert_eq!(fetch(server.http(), "GET", &other, "").status, 200);
}

#[test]
fn a_link_ends_and_one_that_comes_late_is_new() {
    let server = Options::new()
        .users(&["ann", "bob"])
        .set("files.link_s", 2)
        .start();
    let ann = Api::sign_in(&server, "ann");
    let path = begin(&ann, &["bob"]);
    let file = ann.upload("", "", b"x");
    attach(&ann, &path, &file, "");
    let sent = Instant::now();
    // Until no link that was made when it was sent is good any more.
    std::thread::sleep(Duration::from_secs(3).saturating_sub(sent.elapsed()));
    let mut bob = Phone::udp(&server, "bob").registered();
    let message = bob.expect("MESSAGE");
    bob.answer(&message, 200);
    let text = message.text();
    assert!(text.starts_with("file (1 B): https://"), "{text}");
    let link = link(&text);
    assert_eq!(fetch(server.http(), "GET", &link, "").status, 200);
    let ended = until(Duration::from_secs(8), || {
        (fetch(server.http(), "GET", &link, "").status == 404).then_some(())
    });
    ended.expect("an end of the link");
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let mut server = Server::with(&["ann", "bob"]);
    let ann = Api::sign_in(&server, "ann");
    let mut kept = Vec::new();
    for round in 0..5_u8 {
        let content = vec![round; 100_000];
        let file = ann.upload(&format!("{round}"), "", &content);
        // One more is on its way when the lights go out.
        let mut stream = connect(server.http()).expect("the server");
        let head = ann.upload_head("Content-Length: 1000000");
        let begun = [
            head.as_bytes(),
            form_head("x", "").as_bytes(),
            &[9; 300_000],
        ]
        .concat();
        stream.write_all(&begun).expect("sent");
        server.kill();
        server.up();
        kept.push((file, content));
        for (file, content) in &kept {
            assert!(get(&ann, file).body == *content, "{file}");
        }
        assert_eq!(
            lying(&folder(&server)).len(),
            kept.len(),
            "nothing unfinished"
        );
    }
}

#[test]
fn a_backup_holds_the_files() {
    let mut server = Server::with(&["ann"]);
    let ann = Api::sign_in(&server, "ann");
    // More than is read at once.
    let content: Vec<u8> = (0..20_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let file = ann.upload("large", "", &content);
    let picture = ann.upload("p.png", PNG, &png(600, 600));
    let backup = server
        .folder()
        .file("backup")
        .to_string_lossy()
        .into_owned();
    server.cli(&["backup", &backup], "");
    server.down();
    std::fs::remove_dir_all(server.folder().file("data")).expect("gone");
    server.cli(&["restore", &backup], "");
    server.up();
    assert!(get(&ann, &file).body == content);
    let small = ann.fetch("GET", &format!("{}/thumbnail", path_of(&picture)), "");
    assert_eq!(small.status, 200);
}

#[test]
fn people_and_groups_have_a_picture() {
    let server = Server::with(&["ann", "bob", "chen"]);
    let [ann, bob, chen] = ["ann", "bob", "chen"].map(|name| Api::sign_in(&server, name));
    let anns = "/api/v1/people/ann/avatar";
    let initials = bob.fetch("GET", anns, "");
    assert_eq!(initials.status, 200);
    assert_eq!(initials.header("Content-Type"), "image/png");
    assert!(initials.body.starts_with(b"\x89PNG"));
    assert_eq!(
        initials.body,
        ann.fetch("GET", "/api/v1/me/avatar", "").body
    );
    let known = format!("If-None-Match: {}\r\n", initials.header("ETag"));
    assert_eq!(bob.fetch("GET", anns, &known).status, 304);
    let picture = ann.upload("me.png", PNG, &png(40, 60));
    let show = json!({ "file": picture["id"] });
    let others = bob.call("PUT", "/api/v1/me/avatar", &show);
    assert_eq!(others.0, 404, "not his to see");
    let text = ann.upload("me.txt", "", b"me");
    let none = ann.call("PUT", "/api/v1/me/avatar", &json!({ "file": text["id"] }));
    assert_eq!(none.0, 422);
    assert_eq!(
        bob.fetch("GET", anns, "").body,
        initials.body,
        "nothing has changed"
    );
    ann.ask("PUT", "/api/v1/me/avatar", &show);
    let shown = bob.fetch("GET", anns, &known);
    assert_eq!(shown.status, 200);
    assert_ne!(shown.body, initials.body);
    assert_eq!(
        get(&bob, &picture).status,
        404,
        "the file itself is not for him"
    );
    // A group shows its members until it is given a picture.
    let path = begin(&ann, &["bob", "chen"]);
    let avatar = format!("{path}/avatar");
    let mosaic = chen.fetch("GET", &avatar, "");
    assert_eq!(mosaic.status, 200);
    assert_eq!(mosaic.body, bob.fetch("GET", &avatar, "").body);
    ann.ask("DELETE", "/api/v1/me/avatar", &Value::Null);
    assert_eq!(bob.fetch("GET", anns, "").body, initials.body);
    assert_ne!(chen.fetch("GET", &avatar, "").body, mosaic.body);
    let theirs = chen.upload("us.png", PNG, &png(50, 50));
    let give = json!({ "file": theirs["id"] });
    assert_eq!(chen.call("PUT", &avatar, &give).0, 403, "not hers to give");
    let mut news = chen.events(None);
    ann.ask("PUT", &avatar, &show);
    assert_eq!(news.event("avatar_changed")["file"], picture["id"]);
    let given = chen.fetch("GET", &avatar, "");
    assert_ne!(given.body, mosaic.body);
    server.cli(&["user", "add", "dora@example.test"], "");
    let dora = Api::sign_in(&server, "dora");
    assert_eq!(dora.fetch("GET", &avatar, "").status, 404);
    assert_eq!(fetch(server.http(), "GET", &avatar, "").status, 401);
    ann.ask("DELETE", &format!("{path}/members/chen"), &Value::Null);
    assert_ne!(
        chen.fetch("GET", &avatar, "").body,
        given.body,
        "she has left"
    );
    ann.ask("DELETE", &avatar, &Value::Null);
    assert_ne!(bob.fetch("GET", &avatar, "").body, given.body);
}
