"""What every page for a browser needs: who is signed in, forged requests refused, safe pages.

passes    the cookie that stands for a session, at one host       pure
requests  cookies and headers; which requests a cookie counts for; whether a Host is the server's; forms' tokens   pure
pages     documents with no power but what they need              pure
io/       sign_in: who is signed in at the server's own host, and the pages to sign in and out

A session is a token of the store, known by its hash. A browser gets a sealed cookie that names that hash, so
that what revokes the token signs the browser out. Nothing of it is ever in a URL.
"""
