"""The server's pages for people: who is there, who reaches whom, what is wrong, who changed what; and the forms to change it.

    browser -> Site -> PAGES: a line says what to ask the API, and the template that shows the answers
                    -> ACTIONS: a line says which call of the API a form is, and where to go on

table       pages and forms, each one line; what they may do is the API's rule, asked of the same caller     pure
excerpt     as much of a long list as one page shows                                                         pure
io/         in_process_api: the API's handlers, called without HTTP; render: templates; static: files;
            dashboard_site: requests

Nothing here decides who may do what, and nothing is kept: a page is what the API answers to whoever is signed in, and a form is one
call of it. Pages work without scripts; with them, what is shown is kept fresh.
"""
