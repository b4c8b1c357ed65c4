//! Whatever a service answers: in order, once, and below the log.

use proptest::prelude::*;

use super::*;

const NOW: Epoch = Epoch(7);
const PAST: Epoch = Epoch(3);

fn rules() -> Rules {
    Rules {
        prefix: "sse".into(),
        default_event_type: "message".into(),
        max_payload: 10,
        platform: false,
        ids: true,
    }
}

fn before() -> Cursor {
    Cursor::new(NOW, 100)
}

fn entry(id: &(impl ToString + ?Sized)) -> Entry {
    Entry { id: Some(id.to_string()), event: None, data: Some("x".into()) }
}

fn reply(entries: impl IntoIterator<Item = Entry>, more: bool) -> Reply {
    Reply { events: entries.into_iter().collect(), more }
}

fn at(sequence: u64) -> Entry {
    entry(&Cursor::new(NOW, sequence))
}

fn of_the_past(sequence: u64) -> Entry {
    entry(&Cursor::new(PAST, sequence))
}

fn ids(page: &Page) -> Vec<String> {
    page.events.iter().map(|(id, _)| id.to_string()).collect()
}

/// What is taken of a single page after a cursor: the ids, the reasons for the others, and whether there is a gap.
fn taken(cursor: Option<Cursor>, entries: Vec<Entry>) -> (Vec<String>, Vec<Skip>, bool) {
    let page = Seam::new(cursor, before()).take(&reply(entries, false), 1000, &rules());
    (ids(&page), page.skipped, page.gap)
}

fn named(event: &str, data: &str) -> Entry {
    Entry { id: Some("00000007-1".into()), event: Some(event.into()), data: Some(data.into()) }
}

#[test]
fn what_is_in_order_and_below_the_log_is_taken_and_the_log_has_the_rest() {
    let five = Cursor::new(NOW, 5);
    let (ids, skipped, gap) = taken(Some(five), vec![at(5), at(6), at(9), at(9), at(100), at(101)]);
    assert_eq!(ids, ["00000007-6", "00000007-9"]);
    assert_eq!((skipped, gap), (vec![Skip::Known; 4], false));
}

#[test]
fn what_has_no_place_is_left_out_and_leaves_a_gap() {
    let five = Some(Cursor::new(NOW, 5));
    let after = |entries| taken(five, entries);
    assert_eq!(after(vec![at(4)]), (vec![], vec![Skip::Order], true));
    assert_eq!(after(vec![at(9), at(8)]), (vec!["00000007-9".into()], vec![Skip::Order], true));
    assert_eq!(after(vec![entry("42")]), (vec![], vec![Skip::Id], true));
    assert_eq!(after(vec![entry("00000007-0")]), (vec![], vec![Skip::Id], true));
    // A client of this life has nothing to do with an earlier one.
    assert_eq!(after(vec![of_the_past(50)]), (vec![], vec![Skip::Order], true));
}

#[test]
fn what_has_no_id_or_no_data_is_passed_over() {
    let none = Entry::default();
    let blank = Entry { id: Some(" ".into()), ..at(6) };
    let null = Entry { data: None, ..at(6) };
    let (ids, skipped, gap) = taken(None, vec![none, blank, null, at(7)]);
    assert_eq!((ids.len(), skipped, gap), (1, vec![Skip::Blank; 3], false));
}

#[test]
fn what_could_be_no_event_of_the_log_is_left_out() {
    for bad in [named("a\rb", ""), named("a\nid: 1", ""), named("a\0", ""), named("", "12345678901")] {
        let (ids, skipped, gap) = taken(None, vec![bad, at(2)]);
        assert_eq!((ids.len(), skipped, gap), (1, vec![Skip::Event], false));
    }
}

#[test]
fn a_blank_type_is_the_default_one() {
    let frame = |rules: &Rules, event: &str| {
        let page = Seam::new(None, before()).take(&reply([named(event, "x\ny")], false), 1, rules);
        String::from_utf8_lossy(page.events[0].1.frame.as_bytes()).into_owned()
    };
    assert_eq!(frame(&rules(), " "), "id: 00000007-1\ndata: x\ndata: y\n\n");
    assert_eq!(frame(&rules(), "a"), "id: 00000007-1\nevent: a\ndata: x\ndata: y\n\n");
    let other = Rules { default_event_type: "note".into(), ..rules() };
    assert_eq!(frame(&other, ""), "id: 00000007-1\nevent: note\ndata: x\ndata: y\n\n");
}

#[test]
fn earlier_lives_come_first_each_once_and_in_its_own_order() {
    let cursor = Some(Cursor::new(PAST, 40));
    let (ids, _, gap) = taken(cursor, vec![of_the_past(41), entry("00000005-2"), at(3)]);
    assert_eq!((ids, gap), (vec!["00000003-41".into(), "00000005-2".into(), "00000007-3".into()], false));
    let (ids, skipped, gap) = taken(cursor, vec![of_the_past(40), entry("00000005-2"), of_the_past(41)]);
    assert_eq!((ids.len(), skipped, gap), (1, vec![Skip::Known, Skip::Order], true));
    assert_eq!(
        taken(None, vec![at(3), of_the_past(41)]),
        (vec!["00000007-3".into()], vec![Skip::Order], true)
    );
    let lives = (10..40).map(|epoch| entry(&Cursor::new(Epoch(epoch), 1))).collect();
    assert_eq!(taken(None, lives).0.len(), LIVES + 1);
}

#[test]
fn pages_follow_each_other_by_the_last_id_that_has_a_place() {
    let (mut seam, rules) = (Seam::new(None, before()), rules());
    let page = seam.take(&reply([at(1), Entry { event: Some("\n".into()), ..at(2) }], true), 10, &rules);
    assert_eq!((page.last, page.more, page.gap), (Some(Cursor::new(NOW, 2)), true, false));
    // The log's own events end it, whatever the service says.
    let page = seam.take(&reply([at(3), at(100)], true), 10, &rules);
    assert_eq!((ids(&page), page.more, page.gap), (vec!["00000007-3".into()], false, false));
}

#[test]
fn more_of_nothing_and_more_than_was_asked_for_is_a_gap() {
    let rules = rules();
    let take =
        |entries: Vec<Entry>, most| Seam::new(None, before()).take(&reply(entries, true), most, &rules);
    for page in [take(vec![], 10), take(vec![Entry::default()], 10), take(vec![at(1), at(2)], 2)] {
        assert!(page.gap && !page.more, "{page:?}");
    }
    let page = take(vec![at(1), at(2), at(3)], 2);
    assert_eq!((page.events.len(), page.gap, page.more), (2, true, false));
}

#[test]
fn an_event_that_completes_a_stream_completes_it_from_history_too() {
    let page = Seam::new(None, before()).take(&reply([entry("00000007-5-end")], false), 1, &rules());
    assert!(page.events[0].1.complete);
}

#[test]
fn answers_are_read_and_what_is_none_is_told_without_its_content() {
    let page = Reply::read(br#"{"events":[{"id":"a","event":null,"data":"b","more":1}],"more":true,"x":1}"#);
    assert!(page.is_ok_and(|page| page.more && page.events[0].event.is_none()));
    assert!(Reply::read(br#"{"events":[],"error":null}"#).is_ok_and(|page| !page.more));
    for refused in [&br#"{"error":"unknown cursor"}"#[..], br#"{"events":[],"error":{"code":503}}"#] {
        assert_eq!(Reply::read(refused).err(), Some(Unusable::Refused));
    }
    let nonsense: [&[u8]; 8] = [
        b"",
        b"hunter2",
        b"[]",
        b"{}",
        br#"{"stream":"SSE_sse","seq":1}"#,
        br#"{"events":[{"id":42,"data":"hunter2"}]}"#,
        br#"{"events":[{"id":"a","data":{"hunter2":1}}]}"#,
        b"{\"events\":[{\"data\":\"\xff\"}]}",
    ];
    for text in nonsense {
        let error = Reply::read(text).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("no page of history") && !error.contains("hunter2"), "{text:?}: {error}");
    }
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let id = prop_oneof![
        (prop_oneof![Just(NOW), Just(PAST), Just(Epoch(5))], 0u64..120, any::<bool>())
            .prop_map(|(epoch, sequence, end)| Some(Cursor { epoch, sequence, end }.to_string())),
        Just(None),
        "[0-9a-f-]{0,12}".prop_map(Some),
    ];
    let text = || proptest::option::of("[a-z\r\n\0 ]{0,12}");
    proptest::collection::vec(
        (id, text(), text()).prop_map(|(id, event, data)| Entry { id, event, data }),
        0..40,
    )
}

proptest! {
    #[test]
    fn whatever_comes_what_is_taken_is_in_order_once_and_below_the_log(
        pages in proptest::collection::vec((entries(), any::<bool>()), 1..4),
        cursor in proptest::option::of((prop_oneof![Just(NOW), Just(PAST)], 0u64..120)),
        most in 1usize..50,
    ) {
        let cursor = cursor.map(|(epoch, sequence)| Cursor::new(epoch, sequence));
        let mut seam = Seam::new(cursor, before());
        let mut taken: Vec<Cursor> = cursor.into_iter().collect();
        for (entries, more) in pages {
            let page = seam.take(&reply(entries, more), most, &rules());
            prop_assert!(page.events.len() <= most);
            for (id, delivery) in &page.events {
                prop_assert!(id.epoch != NOW || id.sequence < before().sequence);
                prop_assert!(!delivery.frame.as_bytes().contains(&b'\r'));
                prop_assert!(delivery.frame.as_bytes().ends_with(b"\n\n"));
            }
            taken.extend(page.events.iter().map(|(id, _)| *id));
        }
        let lives: Vec<Epoch> = {
            let mut lives: Vec<Epoch> = taken.iter().map(|id| id.epoch).collect();
            lives.dedup();
            lives
        };
        let mut once = lives.clone();
        once.sort_unstable_by_key(|epoch| epoch.0);
        once.dedup();
        prop_assert_eq!(once.len(), lives.len(), "a life came back");
        prop_assert!(lives.iter().rposition(|epoch| *epoch == NOW).is_none_or(|at| at + 1 == lives.len()));
        for pair in taken.windows(2).filter(|pair| pair[0].epoch == pair[1].epoch) {
            prop_assert!(pair[0].sequence < pair[1].sequence);
        }
    }
}
