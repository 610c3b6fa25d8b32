use std::{format, string::ToString};

use proptest::prelude::*;

use super::*;

fn why(text: &str) -> RuleError {
    text.parse::<Rule>().unwrap_err()
}

#[test]
fn a_rule_reads_as_it_prints() {
    for rule in decisions::flows(&[1, 80, 65535]) {
        assert_eq!(rule.to_string().parse(), Ok(rule));
    }
    assert_eq!("  IN\tAuthority TCP  0080 ".parse::<Rule>().unwrap().to_string(), "in authority tcp 80");
    assert_eq!("in peer icmp".parse::<Rule>().unwrap().to_string(), "in peer icmp");
}

#[test]
fn what_is_no_rule_says_why() {
    assert_eq!(why(""), RuleError::Direction);
    assert_eq!(why("tcp 80"), RuleError::Direction);
    assert_eq!(why("both node tcp 80"), RuleError::Direction);
    assert_eq!(why("in"), RuleError::Role);
    assert_eq!(why("in anyone tcp 80"), RuleError::Role);
    assert_eq!(why("in node"), RuleError::Protocol);
    assert_eq!(why("in node sctp 80"), RuleError::Protocol);
    assert_eq!(why("in node tcp"), RuleError::NoPort);
    assert_eq!(why("in node icmp 0"), RuleError::IcmpPort);
    for port in ["0", "65536", "-1", "+80", "http", "80,81", "99999999999"] {
        assert_eq!(why(&format!("in node tcp {port}")), RuleError::Port, "{port}");
    }
    assert_eq!(why("in node tcp 80 81"), RuleError::Rest);
    for reserved in RESERVED {
        assert_eq!(why(&format!("in authority udp {reserved}")), RuleError::Reserved);
        assert!(format!("in authority tcp {reserved}").parse::<Rule>().is_ok());
    }
    assert!(RuleError::Reserved.to_string().contains("8090 and 8091"));
}

#[test]
fn reasons_and_faults_have_words() {
    assert_eq!(Because::Rule(0).to_string(), "rule 1");
    assert!(Because::Commands.to_string().contains("authority alone"));
    assert!(Invalid::Rule.to_string().contains("port"));
}

proptest! {
    #[test]
    fn any_text_is_a_rule_or_not(text in ".{0,40}") {
        if let Ok(rule) = text.parse::<Rule>() {
            prop_assert_eq!(rule.to_string().parse(), Ok(rule));
        }
    }

    #[test]
    fn what_reads_may_stand_in_a_configuration(direction in "(in|out|x)", role in "(authority|node|peer|x)", protocol in "(tcp|udp|icmp|x)", port in prop::option::of(8080u16..8100)) {
        let port = port.map(|port| port.to_string()).unwrap_or_default();
        if let Ok(rule) = format!("{direction} {role} {protocol} {port}").parse::<Rule>() {
            let mut mesh = mesh(&[]);
            mesh.rules.push(rule).unwrap();
            prop_assert_eq!(mesh.check(), Ok(()));
        }
    }
}
