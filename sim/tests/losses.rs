//! A claim whose messages are lost, doubled or late, each in turn.

use std::{
    cell::{Cell, RefCell},
    time::Duration,
};

use os_network_admin::base::error::Exit;
use sim::{
    Administrator, Frame, Meddler, Port, World,
    admin::{pass, simulate},
    scenario::WAIT,
    trace,
};
use wire::Phase;

/// What becomes of one frame.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Lost,
    Doubled,
    /// By so many milliseconds.
    Late(u64),
}

const FATES: [Fate; 5] = [Fate::Lost, Fate::Doubled, Fate::Late(2), Fate::Late(400), Fate::Late(5_000)];

/// Claims one node while frame `number`, counted from the claim's first, has this fate. How many frames there were.
fn claim(fate: Option<(u64, Fate)>) -> Result<u64, String> {
    let world = RefCell::new(World::new(3));
    simulate(async {
        let admin = Administrator::new(&world, 0, 1).map_err(|error| error.to_string())?;
        let node = hold(&world, &admin);
        let first = world.borrow().frames();
        if let Some((number, fate)) = fate {
            world.borrow_mut().meddle(Some(Box::new(move |_, frame| match fate {
                _ if frame.number != first + number => frame.passes(),
                Fate::Lost => frame.lost(),
                Fate::Doubled => frame.doubled(),
                Fate::Late(ms) => frame.delayed(ms * 1000),
            })));
        }
        match admin.claim(None, WAIT).await {
            Ok(_) => {}
            Err(error) if error.exit == Exit::Unconfirmed => {}
            Err(error) => return Err(error.to_string()),
        }
        pass(&world, Duration::from_secs(30)).await;
        let world = world.borrow();
        let claimed = world.phase(node) == Some("claimed");
        claimed.then_some(()).ok_or_else(|| format!("the node is {:?}", world.phase(node)))?;
        let nodes = admin.view().and_then(|view| view.live()).map_err(|error| error.to_string())?;
        let known = nodes.iter().filter(|node| node.member.revoked_ms.is_none()).count() == 1;
        known.then_some(world.frames() - first).ok_or_else(|| "the registry has no such node".to_owned())
    })
}

fn hold(world: &RefCell<World>, admin: &Administrator<'_>) -> usize {
    let mut world = world.borrow_mut();
    let plan = admin.plan_without_scan();
    let node = world.add(&plan);
    world.power_on(node);
    let now = world.now();
    world.run_until(now + 1_000_000, |world| world.phase(node) == Some("hold")).expect("a node holds");
    node
}

#[test]
fn a_claim_survives_the_loss_doubling_or_delay_of_any_one_frame() {
    let frames = claim(None).expect("nothing happens to this one");
    assert!(frames > 20, "{frames} frames are no claim");
    // A claim with a mishap has more frames than one without; those are the mishap's own.
    for number in 0..frames.min(40) {
        for fate in FATES {
            let ended = claim(Some((number, fate)));
            assert!(ended.is_ok(), "frame {number} {fate:?}: {ended:?}");
        }
    }
}

/// How long a claim takes, in virtual time, of which this many first answers to opens are lost.
fn time_without_answers(lost: usize) -> Duration {
    let world = RefCell::new(World::new(3));
    simulate(async {
        let admin = Administrator::new(&world, 0, 1).unwrap();
        hold(&world, &admin);
        let begin = world.borrow().now();
        let count = Cell::new(0);
        world.borrow_mut().meddle(Some(Box::new(move |_, frame| {
            let answers = trace::frame(&frame.bytes).starts_with("answer");
            count.set(count.get() + usize::from(answers));
            if answers && count.get() <= lost { frame.lost() } else { frame.passes() }
        })));
        admin.claim(None, WAIT).await.unwrap();
        Duration::from_micros(world.borrow().now() - begin)
    })
}

#[test]
fn a_lost_answer_costs_the_repeat_of_an_open() {
    let fair = time_without_answers(0);
    for lost in 1..4 {
        let more = time_without_answers(lost as usize) - fair;
        // The administrator repeats every 300 ms. To open anew takes three seconds, and a find.
        assert!(more >= Duration::from_millis(200) && more <= lost * Duration::from_millis(400), "{lost}: {more:?}");
    }
}

/// Nothing of what a node says by TCP arrives once it is claimed.
fn deaf_to_the_end(number: usize) -> Meddler {
    Box::new(move |world: &World, frame: &Frame| {
        let over = world.rules(number).is_some_and(|rules| rules.phase() == Phase::Claimed);
        let tcp = trace::frame(&frame.bytes).starts_with("TCP");
        if over && tcp && frame.from == Port::Node(number) { frame.lost() } else { frame.passes() }
    })
}

#[test]
fn who_could_not_confirm_a_claim_takes_no_other_node_instead() {
    let world = RefCell::new(World::new(4));
    simulate(async {
        let admin = Administrator::new(&world, 0, 1).unwrap();
        let first = hold(&world, &admin);
        world.borrow_mut().meddle(Some(deaf_to_the_end(first)));
        let second = {
            // It answers as soon as the first one has been granted its place.
            let mut world = world.borrow_mut();
            let mut plan = admin.plan_without_scan();
            plan.params.hello_delay_ms = 2_000.into();
            let second = world.add(&plan);
            world.power_on(second);
            second
        };
        let error = admin.claim(None, WAIT).await.map(|claimed| claimed.resumed).unwrap_err();
        assert_eq!(error.exit, Exit::Unconfirmed, "{error}");
        assert_eq!(world.borrow().phase(first), Some("claimed"));
        assert_eq!(world.borrow().phase(second), Some("hold"));
    });
}
