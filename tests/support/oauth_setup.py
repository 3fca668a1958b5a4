"""OAuth from a link to live events: simulated Calendly, the public pages, endpoint, management API, on one clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import asyncpg
import httpx
from pydantic import SecretStr

from slotwire.ingest.control import app_keys
from slotwire.ingest.control.calendly_client.oauth import OAuthClient, TokenPair
from slotwire.ingest.control.calendly_client.uses import Bearer
from slotwire.ingest.control.connections import Connections
from slotwire.ingest.control.held_grants import KEEP_SECONDS
from slotwire.ingest.control.oauth_flow import ConnectFlow
from slotwire.ingest.control.oauth_listener import PublicPages, listening
from slotwire.ingest.control.organizations import Organizations
from slotwire.ingest.foundation.oauth_settings import OAuthSettings
from slotwire.ingest.foundation.settings import CalendlySettings, Settings
from slotwire.ingest.keys.vault import Vault
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.connect_link_models import ConnectLinkCreated, ConnectLinkRequest
from slotwire.ingest.operate.roles import COMMAND_LINE
from slotwire.ingest.simulator.app import Options, Simulator, simulator
from slotwire.ingest.simulator.clock import DrivenClock
from slotwire.ingest.simulator.oauth_grants import challenge_of
from slotwire.ingest.simulator.world import oauth_app
from tests.support.children import free_port
from tests.support.management_api import ManagementApi, management_api
from tests.support.owner import owner_rows
from tests.support.plain_http import NO_TLS
from tests.support.public_endpoint import running_endpoint, settings_for
from tests.support.simulated_calendly import AMPLE
from tests.support.writing import until_written, writing

SEED = "oauth"
INTEGRATOR = "Example Scheduling"
RETURN = "http://127.0.0.1:9/connected"
VERIFIER = "a-verifier-of-more-than-43-characters-for-these-tests"


@dataclass
class Browser:
    """A scripted browser: it keeps cookies, follows nothing by itself, and can be told what to send."""

    client: httpx.AsyncClient
    cookies: dict[str, str] = field(default_factory=dict)
    set_cookies: list[str] = field(default_factory=list)

    async def get(self, url: str) -> httpx.Response:
        """Open an address."""
        return self._kept(await self.client.get(url, headers=self._sent()))

    async def post(self, url: str, form: dict[str, str], **headers: str) -> httpx.Response:
        """Send a form, as the page it is on would."""
        return self._kept(await self.client.post(url, data=form, headers={**self._sent(), **headers}))

    def _sent(self) -> dict[str, str]:
        return {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())} if self.cookies else {}

    def _kept(self, answer: httpx.Response) -> httpx.Response:
        for line in answer.headers.get_list("set-cookie"):
            self.set_cookies.append(line)
            name, _, rest = line.partition("=")
            value = rest.partition(";")[0].strip('"')
            if value:
                self.cookies[name] = value
            else:
                self.cookies.pop(name, None)
        return answer


@dataclass(frozen=True)
class OAuthSetup:
    """A simulated Calendly whose app is ours, and everything of ours around it."""

    calendly: Simulator
    api: ManagementApi
    database: Database
    settings: Settings
    flow: ConnectFlow
    url: str
    client: httpx.AsyncClient
    clock: DrivenClock

    def org(self, number: int = 0) -> str:
        """An organization's id."""
        return list(self.calendly.world.organizations)[number]

    def user(self, place: int = 0, number: int = 0) -> str:
        """A member's id: place 0 is the owner, 1 an admin, 2 and 3 are plain users."""
        return self.calendly.world.members(self.org(number))[place].id

    @property
    def organizations(self) -> Organizations:
        """What acts for organizations."""
        return self.flow.organizations

    @property
    def connections(self) -> Connections:
        """The connections."""
        return self.organizations.connections

    def browser(self) -> Browser:
        """A browser without cookies."""
        return Browser(self.client)

    async def link(self, **options: Any) -> ConnectLinkCreated:
        """Make a link; for a customer who is not known yet if nothing else is said."""
        options = options if "organization" in options else {"external_id": "customer-1", **options}
        request = ConnectLinkRequest(**{"backfill_days": None, **options})
        return await self.api.actions.connect_links.create(COMMAND_LINE, request)

    async def start(self, browser: Browser, link: str) -> str:
        """Open a link and press its button; returns Calendly's consent page."""
        page = await browser.get(link)
        assert page.status_code == 200, page.text
        ticket = parse_qs(urlsplit(link).query)["ticket"][0]
        answer = await browser.post(link.partition("?")[0], {"ticket": ticket}, Origin="null")
        assert answer.status_code == 303, answer.text
        return str(answer.headers["Location"])

    async def decide(self, consent: str, user: str, decision: str = "allow") -> str:
        """Pass Calendly's consent page; returns where it sends the browser."""
        asked = dict(parse_qsl(urlsplit(consent).query))
        form = {**asked, "user": user, "decision": decision}
        answer = await self.client.post(f"{self.calendly.url}/oauth/authorize", data=form)
        assert answer.status_code == 302, answer.text
        return str(answer.headers["Location"])

    async def consent(self, link: str, user: str, browser: Browser | None = None) -> httpx.Response:
        """Go the whole way in one browser; returns the last page."""
        browser = browser or self.browser()
        return await browser.get(await self.decide(await self.start(browser, link), user))

    async def connect(self, place: int = 0, number: int = 0) -> None:
        """Connect a member of an organization."""
        made = await self.link(external_id=f"customer-{number}")
        page = await self.consent(made.url, self.user(place, number))
        assert page.status_code == 200, page.text

    async def simulate(self, verb: str, **body: Any) -> Any:
        """Make something happen at the simulated Calendly."""
        answer = await self.client.post(f"{self.calendly.url}/simulator/{verb}", json=body)
        assert answer.is_success, answer.text
        return answer.json()

    async def settled(self) -> None:
        """Wait until every delivery is written."""
        await self.calendly.engine.sender.idle()
        await until_written(self.database.owner_url)

    async def rows(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """Ask the database as its owner."""
        return await owner_rows(self.database, query, *arguments)

    async def events(self, kind: str) -> list[asyncpg.Record]:
        """The events of a kind about connections, in order."""
        await until_written(self.database.owner_url)
        return await self.rows(
            "SELECT * FROM slotwire.events WHERE type = $1 ORDER BY position", f"io.slotwire.connection.{kind}.v1"
        )


def oauth_settings(settings: Settings, calendly: str, *keys: str, listener: int, seed: str = SEED) -> Settings:
    """Add the simulator's app to settings."""
    app = oauth_app(seed)
    oauth = OAuthSettings(
        host="127.0.0.1",
        port=listener,
        public_url=f"http://127.0.0.1:{listener}",
        client_id=app.client_id,
        client_secret=SecretStr(app.client_secret),
        signing_keys=tuple(map(SecretStr, keys or (app.signing_key,))),
        integrator=INTEGRATOR,
        return_urls=(RETURN,),
    )
    return settings.model_copy(
        update={
            "calendly": CalendlySettings(api_url=calendly, auth_url=calendly, assumed_calls_per_minute=AMPLE),
            "oauth": oauth,
        }
    )


def oauth_environment(settings: Settings, *, port: int | None = None) -> dict[str, str]:
    """Return the app of these settings as the environment of a `control`, with its port or another."""
    oauth = settings.oauth
    assert oauth.client_secret is not None
    return {
        "SLOTWIRE_OAUTH__HOST": oauth.host,
        "SLOTWIRE_OAUTH__PORT": str(oauth.port if port is None else port),
        "SLOTWIRE_OAUTH__PUBLIC_URL": oauth.public_url,
        "SLOTWIRE_OAUTH__CLIENT_ID": oauth.client_id,
        "SLOTWIRE_OAUTH__CLIENT_SECRET": oauth.client_secret.get_secret_value(),
        "SLOTWIRE_OAUTH__SIGNING_KEYS": ",".join(key.get_secret_value() for key in oauth.signing_keys),
        "SLOTWIRE_OAUTH__INTEGRATOR": oauth.integrator,
    }


async def granted(
    client: httpx.AsyncClient, calendly: str, settings: Settings, oauth: OAuthClient, user: str
) -> TokenPair:
    """Let a user consent at the simulator, and exchange the code, without any page of ours."""
    back = f"{settings.oauth.public_url}/oauth/calendly/callback"
    form = {
        "client_id": oauth.client_id,
        "response_type": "code",
        "redirect_uri": back,
        "scope": " ".join(settings.oauth.scopes),
        "code_challenge": challenge_of(VERIFIER),
        "code_challenge_method": "S256",
        "user": user,
        "decision": "allow",
    }
    answer = await client.post(f"{calendly}/oauth/authorize", data=form)
    code = answer.headers["Location"].partition("code=")[2].partition("&")[0]
    return await oauth.exchange(code, verifier=VERIFIER, redirect_uri=back, by=Bearer())


@asynccontextmanager
async def oauth_setup(
    database: Database,
    *,
    organizations: int = 2,
    with_writer: bool = True,
    endpoint: bool = True,
    keep_seconds: float = KEEP_SECONDS,
) -> AsyncIterator[OAuthSetup]:
    """Run all of it; without endpoint, nothing takes deliveries."""
    port, listener, clock = free_port(), free_port(), DrivenClock()
    async with simulator(Options(seed=SEED, organizations=organizations, clock=clock, rate_limit=AMPLE)) as calendly:
        settings = settings_for(database, port=port).model_copy(update={"public_url": f"http://127.0.0.1:{port}"})
        settings = oauth_settings(settings, calendly.url, listener=listener)
        async with (
            running_endpoint(settings, clock=clock) if endpoint else nullcontext(),
            management_api(settings, clock=clock) as api,
            writing(settings) if with_writer else nullcontext(),
            httpx.AsyncClient(timeout=60, verify=NO_TLS, follow_redirects=False) as client,
        ):
            organization = Organizations.from_settings(settings, api.actions.pool, clock, api.actions.calendly)
            consented = api.actions.connect_links.consented
            flow = ConnectFlow.from_settings(settings, api.actions.pool, clock, organization, consented)
            assert flow is not None
            flow = replace(flow, held=replace(flow.held, keep_seconds=keep_seconds))
            await app_keys.follow(api.actions.pool, Vault.from_settings(settings.vault), settings.oauth, clock)
            async with listening(PublicPages(settings.oauth, flow)) as url:
                assert url is not None
                yield OAuthSetup(calendly, api, database, settings, flow, url, client, clock)
