"""The audit log, read and checked."""

from chassis import context
from services.gateway.api.admission import needs, router
from services.gateway.api.audited import Audit, Change, Check, page_of
from services.gateway.domain import Scope
from services.gateway.wire import Cursor, Limit, Page

routes = router("Audit")


@routes.get("/v1/audit")
@needs(Scope.MANAGE)
async def list_changes(audit: Audit, limit: Limit = 100, cursor: Cursor = "") -> Page[Change]:
    """Who changed what, newest first. Rows can be added, and neither changed nor deleted."""
    return await page_of(audit, limit, cursor)


@routes.get("/v1/audit:verify")
@needs(Scope.MANAGE)
async def verify_audit(audit: Audit) -> Check:
    """Follows the hashes from the first row to the newest."""
    broken = await audit.first_broken(context.tenant())
    return Check(intact=broken is None, first_broken=broken)
