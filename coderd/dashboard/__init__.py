"""The dashboard: the server's pages for people, and the forms on them.

    browser -> Site -> PAGES: a line names the API operations to ask, and the template that shows the answers
                    -> ACTIONS: a line names the API operation of a form, and the page that follows

table       pages and forms, each one line; permissions are those of the API's rules     pure
excerpt     as much of a long list as one page shows                                     pure
paths       reported paths as a matrix or a list                                         pure
io/         in_process_api: the API's handlers, called without HTTP; render: templates; static: files;
            dashboard_site: requests

The dashboard decides no permissions and keeps no state: a page is what the API answers to the authenticated
user, and a form is one call of it. Pages work without scripts; with them, what is shown is kept fresh.
"""
