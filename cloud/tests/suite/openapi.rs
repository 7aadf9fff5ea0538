//! The OpenAPI document that the dashboard's types are made from.

#[test]
fn the_document_in_the_repository_is_the_handlers() {
    let committed = include_str!("../../openapi.json");
    assert!(
        committed == cloud::api::openapi_json(),
        "cloud/openapi.json is out of date; make it anew with: cargo run -p cloud -- openapi > cloud/openapi.json"
    );
}

#[test]
fn every_operation_has_a_name_of_its_own_and_says_what_it_answers() {
    let document: serde_json::Value = serde_json::from_str(&cloud::api::openapi_json()).unwrap();
    let mut names = std::collections::BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let name = operation["operationId"].as_str().unwrap();
            assert!(names.insert(name.to_owned()), "{method} {path}: {name} comes twice");
            let answers = operation["responses"].as_object().unwrap();
            let good = answers.keys().filter(|status| status.starts_with('2')).count();
            assert_eq!(good, 1, "{method} {path}");
            if operation["security"].is_array() {
                assert!(answers.contains_key("401"), "{method} {path}");
            }
        }
    }
}
