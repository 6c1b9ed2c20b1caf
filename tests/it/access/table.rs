//! Who may do what, route by route, as the design has it. Written by hand: nothing here is derived
//! from the code that decides.
//!
//! Callers, one letter each. On the client listener: `n` nobody, `k` a key that is not registered,
//! `c` a client of acme, `t` the superuser's token. On the GUI's: sessions of `S` a superuser, `A` an
//! administrator, `O` an organization administrator of acme, `P` a key operator of all
//! organizations, `Q` one of acme, `U` an auditor, `E` a user without roles; the superuser's tokens
//! with the scopes `1` all, `2` read, `3` deposits, `4` metrics; `5` the auditor's token for all;
//! `g` nobody. On the socket: `L` root.

pub struct Case {
    /// As the table of routes has it.
    pub method: &'static str,
    pub route: &'static str,
    /// What is asked for; `$words` are filled in by the test.
    pub path: &'static str,
    pub body: &'static str,
    /// The listeners that have the route: `C`, `G`, `S`.
    pub on: &'static str,
    /// Who is let through, of those whose listener has it.
    pub may: &'static str,
    /// It ends the server, so only one of those who may asks.
    pub ends: bool,
}

pub const CALLERS: &str = "nkctSAOPQUE12345gL";

const fn case(
    method: &'static str,
    route: &'static str,
    path: &'static str,
    body: &'static str,
    may: &'static str,
) -> Case {
    Case {
        method,
        route,
        path,
        body,
        on: "CGS",
        may,
        ends: false,
    }
}

impl Case {
    const fn ends(mut self) -> Self {
        self.ends = true;
        self
    }

    const fn on(mut self, listeners: &'static str) -> Self {
        self.on = listeners;
        self
    }
}

/// Whoever can open a connection.
const ANYONE: &str = CALLERS;
/// Reads all that is no secret.
const READERS: &str = "tSAU125L";
/// The same in acme: its administrator and its operator read it, too.
const READERS_IN_ACME: &str = "tSAOPQU125L";
const ADMINISTRATORS: &str = "tSA1L";
const ADMINISTRATORS_IN_ACME: &str = "tSAO1L";
const SUPERUSERS: &str = "tS1L";
/// Deposits' metadata.
const SEE_IN_ACME: &str = "ctSAOPQU1235L";
const SEE_ELSEWHERE: &str = "tSAPU1235L";
/// Deposits' bytes.
const OPEN_IN_ACME: &str = "ctSPQ13L";
const OPEN_ELSEWHERE: &str = "tSP13L";

pub const CASES: &[Case] = &[
    case("GET", "/", "/?a=fingerprint", "", "nkctSAOPQUE12345g").on("CG"),
    case(
        "GET",
        "/v1/server/openpgp-key",
        "/v1/server/openpgp-key",
        "",
        ANYONE,
    ),
    case("GET", "/style.css", "/style.css", "", "SAOPQUE12345g").on("G"),
    case("GET", "/v1/server", "/v1/server", "", ANYONE),
    case("GET", "/v1/server/ca.pem", "/v1/server/ca.pem", "", ANYONE),
    case("GET", "/v1/openapi.json", "/v1/openapi.json", "", ANYONE),
    case("GET", "/v1/status", "/v1/status", "", READERS),
    case("GET", "/metrics", "/metrics", "", "SAU1245L").on("GS"),
    // Clients.
    case("GET", "/v1/clients/self", "/v1/clients/self", "", "kc").on("C"),
    case("GET", "/v1/clients", "/v1/clients", "", "tSAOU125L"),
    case(
        "GET",
        "/v1/clients",
        "/v1/clients?org=acme",
        "",
        "tSAOU125L",
    ),
    case("GET", "/v1/clients", "/v1/clients?org=other", "", READERS),
    case(
        "GET",
        "/v1/clients/{fingerprint}",
        "/v1/clients/$acme_client",
        "",
        "tSAOU125L",
    ),
    case(
        "GET",
        "/v1/clients/{fingerprint}",
        "/v1/clients/$other_client",
        "",
        READERS,
    ),
    case(
        "POST",
        "/v1/clients/{fingerprint}/approve",
        "/v1/clients/$acme_client/approve",
        "",
        ADMINISTRATORS_IN_ACME,
    ),
    case(
        "POST",
        "/v1/clients/{fingerprint}/approve",
        "/v1/clients/$other_client/approve",
        "",
        ADMINISTRATORS,
    ),
    case(
        "POST",
        "/v1/clients/{fingerprint}/deny",
        "/v1/clients/$acme_client/deny",
        "{}",
        ADMINISTRATORS_IN_ACME,
    ),
    case(
        "POST",
        "/v1/clients/{fingerprint}/deny",
        "/v1/clients/$other_client/deny",
        "",
        ADMINISTRATORS,
    ),
    case(
        "POST",
        "/v1/clients/{fingerprint}/disable",
        "/v1/clients/$spare_client/disable",
        "",
        ADMINISTRATORS_IN_ACME,
    ),
    case(
        "POST",
        "/v1/clients/{fingerprint}/disable",
        "/v1/clients/$other_client/disable",
        "",
        ADMINISTRATORS,
    ),
    case(
        "POST",
        "/v1/clients/{fingerprint}/enable",
        "/v1/clients/$spare_client/enable",
        "",
        ADMINISTRATORS_IN_ACME,
    ),
    case(
        "POST",
        "/v1/clients/{fingerprint}/enable",
        "/v1/clients/$other_client/enable",
        "",
        ADMINISTRATORS,
    ),
    case(
        "DELETE",
        "/v1/clients/{fingerprint}",
        "/v1/clients/$acme_client",
        "",
        ADMINISTRATORS_IN_ACME,
    ),
    case(
        "DELETE",
        "/v1/clients/{fingerprint}",
        "/v1/clients/$other_client",
        "",
        ADMINISTRATORS,
    ),
    // Organizations.
    case("GET", "/v1/orgs", "/v1/orgs", "", READERS_IN_ACME),
    case(
        "POST",
        "/v1/orgs",
        "/v1/orgs",
        r#"{"name":"acme"}"#,
        ADMINISTRATORS,
    ),
    case(
        "GET",
        "/v1/orgs/{org}",
        "/v1/orgs/acme",
        "",
        READERS_IN_ACME,
    ),
    case("GET", "/v1/orgs/{org}", "/v1/orgs/other", "", "tSAPU125L"),
    case(
        "PUT",
        "/v1/orgs/{org}/auth",
        "/v1/orgs/acme/auth",
        r#"{"auth_code":"a new code"}"#,
        ADMINISTRATORS_IN_ACME,
    ),
    case(
        "PUT",
        "/v1/orgs/{org}/auth",
        "/v1/orgs/other/auth",
        r#"{"auth_code":"a new code"}"#,
        ADMINISTRATORS,
    ),
    case(
        "PUT",
        "/v1/orgs/{org}/recovery-recipient",
        "/v1/orgs/acme/recovery-recipient",
        r#"{"recipient":null}"#,
        ADMINISTRATORS,
    ),
    case(
        "POST",
        "/v1/orgs/{org}/contacts",
        "/v1/orgs/acme/contacts",
        r#"{"contacts":["root@kts01"]}"#,
        ADMINISTRATORS_IN_ACME,
    ),
    case(
        "POST",
        "/v1/orgs/{org}/contacts",
        "/v1/orgs/other/contacts",
        r#"{"contacts":["root@kts01"]}"#,
        ADMINISTRATORS,
    ),
    case(
        "DELETE",
        "/v1/orgs/{org}/contacts/{contact}",
        "/v1/orgs/acme/contacts/root@kts01",
        "",
        ADMINISTRATORS_IN_ACME,
    ),
    case(
        "DELETE",
        "/v1/orgs/{org}/contacts/{contact}",
        "/v1/orgs/other/contacts/root@kts01",
        "",
        ADMINISTRATORS,
    ),
    case(
        "PUT",
        "/v1/orgs/{org}/expiry",
        "/v1/orgs/acme/expiry",
        r#"{"expires":"9999-01-01T00:00:00Z"}"#,
        ADMINISTRATORS,
    ),
    // Deposits: lists.
    case("GET", "/v1/deposits", "/v1/deposits", "", SEE_IN_ACME),
    case(
        "GET",
        "/v1/deposits",
        "/v1/deposits?org=acme",
        "",
        SEE_IN_ACME,
    ),
    case(
        "GET",
        "/v1/deposits",
        "/v1/deposits?org=other",
        "",
        SEE_ELSEWHERE,
    ),
    case(
        "GET",
        "/v1/orgs/{org}/deposits",
        "/v1/orgs/acme/deposits",
        "",
        SEE_IN_ACME,
    ),
    case(
        "GET",
        "/v1/orgs/{org}/deposits",
        "/v1/orgs/other/deposits",
        "",
        SEE_ELSEWHERE,
    ),
    // By name: a client's own alone; others are asked for the organization.
    case("PUT", "/v1/deposits/{name}", "/v1/deposits/key", "x", "c"),
    case("GET", "/v1/deposits/{name}", "/v1/deposits/key", "", "c"),
    case("HEAD", "/v1/deposits/{name}", "/v1/deposits/key", "", "c"),
    case(
        "GET",
        "/v1/deposits/{name}/metadata",
        "/v1/deposits/key/metadata",
        "",
        "c",
    ),
    case(
        "PATCH",
        "/v1/deposits/{name}/metadata",
        "/v1/deposits/key/metadata",
        "{}",
        "c",
    ),
    case(
        "GET",
        "/v1/deposits/{name}/versions",
        "/v1/deposits/key/versions",
        "",
        "c",
    ),
    case(
        "POST",
        "/v1/deposits/{name}/undelete",
        "/v1/deposits/key/undelete",
        "",
        "c",
    ),
    case(
        "POST",
        "/v1/deposits/{name}/purge",
        "/v1/deposits/key/purge",
        "",
        "c",
    ),
    case(
        "DELETE",
        "/v1/deposits/{name}",
        "/v1/deposits/gone",
        "",
        "c",
    ),
    case(
        "GET",
        "/v1/deposits/id/metadata",
        "/v1/deposits/id/metadata",
        "",
        "c",
    ),
    case(
        "PATCH",
        "/v1/deposits/id/metadata",
        "/v1/deposits/id/metadata",
        "{}",
        "c",
    ),
    case(
        "GET",
        "/v1/deposits/id/versions",
        "/v1/deposits/id/versions",
        "",
        "c",
    ),
    case(
        "POST",
        "/v1/deposits/id/undelete",
        "/v1/deposits/id/undelete",
        "",
        "c",
    ),
    case(
        "POST",
        "/v1/deposits/id/purge",
        "/v1/deposits/id/purge",
        "",
        "c",
    ),
    // By organization and name.
    case(
        "PUT",
        "/v1/orgs/{org}/deposits/{name}",
        "/v1/orgs/acme/deposits/key",
        "x",
        OPEN_IN_ACME,
    ),
    case(
        "PUT",
        "/v1/orgs/{org}/deposits/{name}",
        "/v1/orgs/other/deposits/key",
        "x",
        OPEN_ELSEWHERE,
    ),
    case(
        "GET",
        "/v1/orgs/{org}/deposits/{name}",
        "/v1/orgs/acme/deposits/key",
        "",
        OPEN_IN_ACME,
    ),
    case(
        "GET",
        "/v1/orgs/{org}/deposits/{name}",
        "/v1/orgs/other/deposits/key",
        "",
        OPEN_ELSEWHERE,
    ),
    case(
        "GET",
        "/v1/orgs/{org}/deposits/{name}",
        "/v1/orgs/acme/deposits/colleagues",
        "",
        "tSPQ13L",
    ),
    case(
        "HEAD",
        "/v1/orgs/{org}/deposits/{name}",
        "/v1/orgs/acme/deposits/key",
        "",
        SEE_IN_ACME,
    ),
    case(
        "HEAD",
        "/v1/orgs/{org}/deposits/{name}",
        "/v1/orgs/other/deposits/key",
        "",
        SEE_ELSEWHERE,
    ),
    case(
        "GET",
        "/v1/orgs/{org}/deposits/{name}/metadata",
        "/v1/orgs/acme/deposits/key/metadata",
        "",
        SEE_IN_ACME,
    ),
    case(
        "GET",
        "/v1/orgs/{org}/deposits/{name}/metadata",
        "/v1/orgs/other/deposits/key/metadata",
        "",
        SEE_ELSEWHERE,
    ),
    case(
        "PATCH",
        "/v1/orgs/{org}/deposits/{name}/metadata",
        "/v1/orgs/acme/deposits/key/metadata",
        "{}",
        OPEN_IN_ACME,
    ),
    case(
        "PATCH",
        "/v1/orgs/{org}/deposits/{name}/metadata",
        "/v1/orgs/other/deposits/key/metadata",
        "{}",
        OPEN_ELSEWHERE,
    ),
    case(
        "GET",
        "/v1/orgs/{org}/deposits/{name}/versions",
        "/v1/orgs/acme/deposits/key/versions",
        "",
        SEE_IN_ACME,
    ),
    case(
        "GET",
        "/v1/orgs/{org}/deposits/{name}/versions",
        "/v1/orgs/other/deposits/key/versions",
        "",
        SEE_ELSEWHERE,
    ),
    case(
        "POST",
        "/v1/orgs/{org}/deposits/{name}/undelete",
        "/v1/orgs/acme/deposits/key/undelete",
        "",
        OPEN_IN_ACME,
    ),
    case(
        "POST",
        "/v1/orgs/{org}/deposits/{name}/undelete",
        "/v1/orgs/other/deposits/key/undelete",
        "",
        OPEN_ELSEWHERE,
    ),
    case(
        "POST",
        "/v1/orgs/{org}/deposits/{name}/purge",
        "/v1/orgs/acme/deposits/key/purge",
        "",
        OPEN_IN_ACME,
    ),
    case(
        "POST",
        "/v1/orgs/{org}/deposits/{name}/purge",
        "/v1/orgs/other/deposits/key/purge",
        "",
        OPEN_ELSEWHERE,
    ),
    case(
        "DELETE",
        "/v1/orgs/{org}/deposits/{name}",
        "/v1/orgs/acme/deposits/gone",
        "",
        OPEN_IN_ACME,
    ),
    case(
        "DELETE",
        "/v1/orgs/{org}/deposits/{name}",
        "/v1/orgs/other/deposits/gone",
        "",
        OPEN_ELSEWHERE,
    ),
    // By id. To a client what another organization has is not there.
    case(
        "PUT",
        "/v1/deposits/id/{uuid}",
        "/v1/deposits/id/$acme_deposit",
        "x",
        OPEN_IN_ACME,
    ),
    case(
        "PUT",
        "/v1/deposits/id/{uuid}",
        "/v1/deposits/id/$other_deposit",
        "x",
        OPEN_ELSEWHERE,
    ),
    case(
        "GET",
        "/v1/deposits/id/{uuid}",
        "/v1/deposits/id/$acme_deposit",
        "",
        OPEN_IN_ACME,
    ),
    case(
        "GET",
        "/v1/deposits/id/{uuid}",
        "/v1/deposits/id/$other_deposit",
        "",
        OPEN_ELSEWHERE,
    ),
    case(
        "HEAD",
        "/v1/deposits/id/{uuid}",
        "/v1/deposits/id/$acme_deposit",
        "",
        SEE_IN_ACME,
    ),
    case(
        "HEAD",
        "/v1/deposits/id/{uuid}",
        "/v1/deposits/id/$other_deposit",
        "",
        SEE_ELSEWHERE,
    ),
    case(
        "GET",
        "/v1/deposits/id/{uuid}/metadata",
        "/v1/deposits/id/$acme_deposit/metadata",
        "",
        SEE_IN_ACME,
    ),
    case(
        "GET",
        "/v1/deposits/id/{uuid}/metadata",
        "/v1/deposits/id/$other_deposit/metadata",
        "",
        SEE_ELSEWHERE,
    ),
    case(
        "PATCH",
        "/v1/deposits/id/{uuid}/metadata",
        "/v1/deposits/id/$acme_deposit/metadata",
        "{}",
        OPEN_IN_ACME,
    ),
    case(
        "PATCH",
        "/v1/deposits/id/{uuid}/metadata",
        "/v1/deposits/id/$other_deposit/metadata",
        "{}",
        OPEN_ELSEWHERE,
    ),
    case(
        "GET",
        "/v1/deposits/id/{uuid}/versions",
        "/v1/deposits/id/$acme_deposit/versions",
        "",
        SEE_IN_ACME,
    ),
    case(
        "GET",
        "/v1/deposits/id/{uuid}/versions",
        "/v1/deposits/id/$other_deposit/versions",
        "",
        SEE_ELSEWHERE,
    ),
    case(
        "POST",
        "/v1/deposits/id/{uuid}/undelete",
        "/v1/deposits/id/$acme_deposit/undelete",
        "",
        OPEN_IN_ACME,
    ),
    case(
        "POST",
        "/v1/deposits/id/{uuid}/undelete",
        "/v1/deposits/id/$other_deposit/undelete",
        "",
        OPEN_ELSEWHERE,
    ),
    case(
        "POST",
        "/v1/deposits/id/{uuid}/purge",
        "/v1/deposits/id/$acme_deposit/purge",
        "",
        OPEN_IN_ACME,
    ),
    case(
        "POST",
        "/v1/deposits/id/{uuid}/purge",
        "/v1/deposits/id/$other_deposit/purge",
        "",
        OPEN_ELSEWHERE,
    ),
    case(
        "DELETE",
        "/v1/deposits/id/{uuid}",
        "/v1/deposits/id/$acme_deposit",
        "",
        OPEN_IN_ACME,
    ),
    case(
        "DELETE",
        "/v1/deposits/id/{uuid}",
        "/v1/deposits/id/$other_deposit",
        "",
        OPEN_ELSEWHERE,
    ),
    // Users. Superusers are changed by superusers alone.
    case("GET", "/v1/users", "/v1/users", "", READERS),
    case(
        "POST",
        "/v1/users",
        "/v1/users",
        r#"{"name":"someone","password":"a long enough one","grants":[]}"#,
        ADMINISTRATORS,
    ),
    case(
        "POST",
        "/v1/users",
        "/v1/users",
        r#"{"name":"chief","password":"short","grants":[{"role":"superuser","org":null}]}"#,
        SUPERUSERS,
    ),
    case("GET", "/v1/users/{user}", "/v1/users/chief", "", READERS),
    case(
        "PATCH",
        "/v1/users/{user}",
        "/v1/users/someone",
        r#"{"disabled":false}"#,
        ADMINISTRATORS,
    ),
    case(
        "PATCH",
        "/v1/users/{user}",
        "/v1/users/chief",
        r#"{"disabled":false}"#,
        SUPERUSERS,
    ),
    case(
        "PUT",
        "/v1/users/{user}/password",
        "/v1/users/someone/password",
        r#"{"password":"a long enough one"}"#,
        ADMINISTRATORS,
    ),
    case(
        "PUT",
        "/v1/users/{user}/password",
        "/v1/users/chief/password",
        r#"{"password":"a long enough one"}"#,
        SUPERUSERS,
    ),
    case(
        "POST",
        "/v1/users/{user}/certificates",
        "/v1/users/someone/certificates",
        r#"{"certificate":"short"}"#,
        ADMINISTRATORS,
    ),
    case(
        "GET",
        "/v1/users/{user}/certificates",
        "/v1/users/someone/certificates",
        "",
        READERS,
    ),
    case(
        "DELETE",
        "/v1/users/{user}/certificates/{fingerprint}",
        "/v1/users/someone/certificates/$acme_client",
        "",
        ADMINISTRATORS,
    ),
    case(
        "POST",
        "/v1/users/{user}/totp",
        "/v1/users/someone/totp",
        "{}",
        ADMINISTRATORS,
    ),
    case(
        "POST",
        "/v1/users/{user}/totp",
        "/v1/users/chief/totp",
        "{}",
        SUPERUSERS,
    ),
    case(
        "POST",
        "/v1/users/{user}/totp/confirm",
        "/v1/users/roleless-two/totp/confirm",
        r#"{"code":"000000"}"#,
        ADMINISTRATORS,
    ),
    case(
        "POST",
        "/v1/users/{user}/totp/remove",
        "/v1/users/someone/totp/remove",
        "{}",
        ADMINISTRATORS,
    ),
    case(
        "POST",
        "/v1/users/{user}/totp/remove",
        "/v1/users/chief/totp/remove",
        "{}",
        SUPERUSERS,
    ),
    case(
        "POST",
        "/v1/users/{user}/reset",
        "/v1/users/someone/reset",
        "{}",
        "L",
    )
    .on("S"),
    case(
        "POST",
        "/v1/users/{user}/grants",
        "/v1/users/someone/grants",
        r#"{"role":"administrator","org":null}"#,
        ADMINISTRATORS,
    ),
    // An auditor reads the audit, which an administrator does not: that is not his to give.
    case(
        "POST",
        "/v1/users/{user}/grants",
        "/v1/users/someone/grants",
        r#"{"role":"auditor","org":null}"#,
        SUPERUSERS,
    ),
    case(
        "POST",
        "/v1/users/{user}/grants",
        "/v1/users/promoted/grants",
        r#"{"role":"superuser","org":null}"#,
        SUPERUSERS,
    ),
    case(
        "POST",
        "/v1/users/{user}/grants",
        "/v1/users/chief/grants",
        r#"{"role":"auditor","org":null}"#,
        SUPERUSERS,
    ),
    case(
        "DELETE",
        "/v1/users/{user}/grants",
        "/v1/users/someone/grants?role=auditor",
        "",
        ADMINISTRATORS,
    ),
    case(
        "DELETE",
        "/v1/users/{user}/grants",
        "/v1/users/chief/grants?role=auditor",
        "",
        SUPERUSERS,
    ),
    case(
        "DELETE",
        "/v1/users/{user}",
        "/v1/users/someone",
        "",
        ADMINISTRATORS,
    ),
    case(
        "DELETE",
        "/v1/users/{user}",
        "/v1/users/chief",
        "",
        SUPERUSERS,
    ),
    case("GET", "/v1/roles", "/v1/roles", "", READERS),
    // Tokens.
    case("GET", "/v1/tokens", "/v1/tokens", "", READERS),
    case(
        "POST",
        "/v1/tokens",
        "/v1/tokens",
        r#"{"user":"administrator","label":"x","scopes":["read"]}"#,
        ADMINISTRATORS,
    ),
    case(
        "POST",
        "/v1/tokens",
        "/v1/tokens",
        r#"{"user":"auditor","label":"x","scopes":["read"]}"#,
        SUPERUSERS,
    ),
    case(
        "POST",
        "/v1/tokens",
        "/v1/tokens",
        r#"{"user":"superuser","label":"x","scopes":["read"]}"#,
        SUPERUSERS,
    ),
    case(
        "DELETE",
        "/v1/tokens/{id}",
        "/v1/tokens/018f3b5e-5b6a-7c3d-8e9f-0123456789ab",
        "",
        ADMINISTRATORS,
    ),
    // Settings and audit.
    case("GET", "/v1/settings", "/v1/settings", "", READERS),
    case(
        "GET",
        "/v1/settings/{setting}",
        "/v1/settings/log.level",
        "",
        READERS,
    ),
    case(
        "PUT",
        "/v1/settings/{setting}",
        "/v1/settings/log.level",
        r#"{"value":"info"}"#,
        ADMINISTRATORS,
    ),
    // Unsealing; the server is open, and says so.
    case(
        "POST",
        "/v1/unseal",
        "/v1/unseal",
        r#"{"opener":{"key_file":"$key_file"}}"#,
        "SAOPQUE12345gL",
    )
    .on("GS"),
    case("GET", "/v1/unseal", "/v1/unseal", "", "L").on("S"),
    case(
        "POST",
        "/unseal",
        "/unseal",
        "passphrase=x",
        "SAOPQUE12345g",
    )
    .on("G"),
    case(
        "POST",
        "/v1/root/rotate",
        "/v1/root/rotate",
        r#"{"openers":[{"key_file":"$key_file"}]}"#,
        "S1L",
    )
    .on("GS"),
    // Slots.
    case("GET", "/v1/slots", "/v1/slots", "", "SAU125L").on("GS"),
    case(
        "POST",
        "/v1/slots",
        "/v1/slots",
        r#"{"label":"x","secret":{"key_file":"$key_file"},"opener":{"key_file":"$key_file"}}"#,
        "S1L",
    )
    .on("GS"),
    case(
        "PUT",
        "/v1/slots/{id}",
        "/v1/slots/018f3b5e-5b6a-7c3d-8e9f-0123456789ab",
        r#"{"secret":{"key_file":"$key_file"},"opener":{"key_file":"$key_file"}}"#,
        "S1L",
    )
    .on("GS"),
    case(
        "DELETE",
        "/v1/slots/{id}",
        "/v1/slots/018f3b5e-5b6a-7c3d-8e9f-0123456789ab",
        r#"{"opener":{"key_file":"$key_file"}}"#,
        "S1L",
    )
    .on("GS"),
    case(
        "POST",
        "/v1/slots/{id}/test",
        "/v1/slots/018f3b5e-5b6a-7c3d-8e9f-0123456789ab/test",
        r#"{"opener":{"key_file":"$key_file"}}"#,
        "S1L",
    )
    .on("GS"),
    case(
        "GET",
        "/v1/orgs/{org}/key",
        "/v1/orgs/acme/key",
        "",
        READERS_IN_ACME,
    ),
    case(
        "POST",
        "/v1/orgs/{org}/key/rotate",
        "/v1/orgs/acme/key/rotate",
        "",
        ADMINISTRATORS,
    ),
    // Certificates.
    case("GET", "/v1/tls", "/v1/tls", "", "SAU125L").on("GS"),
    case("POST", "/v1/tls/csr", "/v1/tls/csr", "", "S1L").on("GS"),
    case(
        "POST",
        "/v1/tls/self-signed",
        "/v1/tls/self-signed",
        r#"{"days":0}"#,
        "S1L",
    )
    .on("GS"),
    case(
        "PUT",
        "/v1/tls/certificate",
        "/v1/tls/certificate",
        r#"{"certificate":"x","key":"y"}"#,
        "S1L",
    )
    .on("GS"),
    case("POST", "/v1/tls/rollback", "/v1/tls/rollback", "", "S1L").on("GS"),
    case(
        "PUT",
        "/v1/tls/client-ca",
        "/v1/tls/client-ca",
        r#"{"certificates":"x","verify_depth":1}"#,
        "S1L",
    )
    .on("GS"),
    case(
        "DELETE",
        "/v1/tls/client-ca",
        "/v1/tls/client-ca",
        "",
        "S1L",
    )
    .on("GS"),
    case("GET", "/v1/audit", "/v1/audit", "", "tSU125L"),
    case("GET", "/v1/audit/verify", "/v1/audit/verify", "", "tSU125L"),
    case("GET", "/v1/audit/export", "/v1/audit/export", "", "tSU125L"),
    // Sessions; the last ones end what the others need.
    case(
        "POST",
        "/v1/sessions",
        "/v1/sessions",
        r#"{"user":"roleless","password":"$password"}"#,
        "SAOPQUE12345g",
    )
    .on("G"),
    case(
        "GET",
        "/v1/sessions/current",
        "/v1/sessions/current",
        "",
        "SAOPQUE",
    )
    .on("G"),
    case(
        "POST",
        "/v1/clients",
        "/v1/clients",
        r#"{"org":"other"}"#,
        "kc",
    )
    .on("C"),
    case(
        "POST",
        "/v1/sessions/current/prove",
        "/v1/sessions/current/prove",
        r#"{"short":1}"#,
        "SAOPQUE",
    )
    .on("G"),
    case(
        "DELETE",
        "/v1/sessions/current",
        "/v1/sessions/current",
        "",
        "SAOPQUE",
    )
    .on("G"),
    case("POST", "/v1/seal", "/v1/seal", "", "S1L")
        .on("GS")
        .ends(),
];
