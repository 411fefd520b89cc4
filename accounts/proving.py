"""Whose an account is, the first time that somebody shows that its address is theirs.

Where addresses are not confirmed at sign-up, anybody may have opened the account before, under another's address, and
left a way in: a second address, a passkey, a sign-on elsewhere, a session. What was there before the proof goes.
"""

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from allauth.usersessions.models import UserSession

from accounts.models import User


def prove(user: User, email: str, *, session_key: str) -> bool:
    """Take `email` as shown to be this user's, who is here in that session. Whether something was taken away: every
    other address, session, second factor and sign-on. An account without a password is left as it is: nobody but who
    signs on elsewhere gets into it."""
    address = EmailAddress.objects.filter(user=user, email__iexact=email).first()
    if address is None or address.verified:
        return False
    EmailAddress.objects.filter(pk=address.pk).update(verified=True)
    if not user.has_usable_password():
        return False
    others = EmailAddress.objects.filter(user=user).exclude(pk=address.pk)
    sign_ons, factors = SocialAccount.objects.filter(user=user), Authenticator.objects.filter(user=user)
    gone = [rows.delete()[0] for rows in (others, factors, sign_ons)]
    for session in UserSession.objects.filter(user=user).exclude(session_key=session_key):
        session.end()
    return any(gone)
