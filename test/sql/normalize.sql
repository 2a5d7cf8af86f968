-- Normalising functions: one form of each value, NULL for what has none, no error for any text.
SELECT left(input, 40) AS input, sophia.normalize_email(input) AS email
FROM unnest(ARRAY['Ann@Example.COM', '  ann@example.com ', 'mailto:Ann@example.com?subject=a@b', '<ann@example.com>',
  '"Lee, Ann" <Ann.Lee@example.com>', 'ann+sales@example.com', 'x@BÜCHER.example', 'x@xn--bcher-kva.example', 'x@日本語.jp',
  'ÄNN@example.com', 'ann@example.com.', 'no at', 'a@b@c', '@example.com', 'ann@', 'ann@.com', 'ann@a..b', 'an n@example.com',
  'ann@exa mple.com', '', ' ', 'n/a', 'ann@-a.com', repeat('a', 400) || '@example.com', NULL, '"ann"@example.com', '"Ann Lee"@example.com',
  '"a\"b"@example.com', '"ann@example.com', 'ann@faß.de', 'ann@ＥＸＡＭＰＬＥ．com', 'ann@xn--', 'ann@[192.0.2.1]', repeat('b', 64) || '@example.com',
  repeat('c', 65) || '@example.com', 'ann@' || repeat('d', 64) || '.com', 'ann@' || repeat(repeat('e', 49) || '.', 5) || 'com']) AS input;

-- The registrable domain: an address or a host; the public suffix list, its private part too.
SELECT left(input, 40) AS input, sophia.email_domain(input) AS domain
FROM unnest(ARRAY['ann@example.com', 'Ann <ann@Mail.Sales.Example.CO.UK>', 'sub.acme.com', 'WWW.Acme.com.', 'ann@acme.com.au', 'ann@bücher.de',
  'ann@mail.xn--bcher-kva.de', 'ann@食狮.公司.cn', 'ann@team.github.io', 'ann@city.kawasaki.jp', 'ann@x.kawasaki.jp', 'co.uk', 'ann@co.uk', 'com',
  'ann@localhost', '192.0.2.1', 'ann@192.0.2.1', 'a@b@acme.com', 'https://acme.com', 'acme..com', '', NULL]) AS input;

SELECT input, sophia.normalize_phone(input) AS phone, sophia.normalize_phone(input, 'de') AS de,
  sophia.normalize_phone(input, 'US') AS us, sophia.normalize_phone(input, 'IT') AS it
FROM unnest(ARRAY['+49 (0)89 123456', '0049-89-123456 ext. 12', '089/123456', '(415) 555-0100 x99', '1-415-555-0100',
  '+39 06 1234567', '06 1234567', '+1 (555) 123-4567', 'tel:+44-20-7946-0958;ext=5', '011 49 89 123456', '+7 495 123-45-67',
  '＋４９ ８９ １２３４５６', '+36 06 1 234 5678', '123', '+999 123456789', '+49', '+1234567890123456', 'abc', '1-800-FLOWERS', '+', '',
  NULL]) AS input;
SELECT sophia.normalize_phone('8 (495) 123-45-67', 'RU'), sophia.normalize_phone('089 123456', 'XX'),
  sophia.normalize_phone('089 123456', ''), sophia.normalize_phone(NULL, 'DE');

SELECT left(input, 40) AS input, sophia.normalize_name(input) AS name
FROM unnest(ARRAY['  José   GARCÍA ', E'jose\tgarcía', 'Straße', 'Łukasz Ørsted', 'ﬁne ＡＢＣ', 'O’Brien–Smith', 'Йозеф', '한글 가', 'がぎ',
  'İstanbul', 'ΣΟΦΊΑΣ', 'σοφίας', 'Smith, J.R. (Acme)', '“Bob”', '-', '?', 'unknown', 'N/A', '', ' ', repeat('x', 2000), NULL]) AS input;
SELECT sophia.normalize_name(normalize('Zoë Müller', NFC)) = sophia.normalize_name(normalize('ZOË MÜLLER', NFD)) AS same;

SELECT sophia.strip_html('<html><head><title>T</title><style>p {a: "</p>"}</style></head><body>'
  '<p>Hello&nbsp;<b>Wor</b>ld &amp; co &#8364;&#x41;&bogus; a < b &lt;tag&gt;</p><!-- c > --><div>x<br/>y<br><br>z</div>'
  '<script>if (a<b) "</p>"</script> <a href="x>y">link</a> <ann@example.com> <table><tr><td>1</td><td>2</td></tr></table>');
SELECT input, sophia.strip_html(input) AS text
FROM unnest(ARRAY['plain text', E'two\nlines', E'<pre>two\nlines</pre>', '&#0;&#xD800;&#1114112;&#150;&#65', '&amp;lt;', 'a&b', '&', '<', 'a <b',
  '<!--', '<script>x', '<p></p>', E'  \n ', '', '1 < 2 > 0', '<p>a</p><p>b</p>', E'zero\u200Bwidth', '&nbspx &copy2020 &notit; &notin; &Aacute &hearts; &CounterClockwiseContourIntegral; &fjlig;', '<![CDATA[a <b>]]>c',
  '<![CDATA[a', '<div style="color:red; DISPLAY : none">a<div>b</div></div>c', '<p hidden>a</p>b', '<p title="a hidden b" hid>c</p>',
  '<p style="display:none">never ended', '<br hidden>a', '<ul><li>a<li>b</ul><p>c<p>d', '<TABLE><TR><TD>1<TD>2<TR><TD>3</TABLE>4', '<b><i>a</b></i>',
  '</p></p>a</', 'a<![endif]-->b<!--[if mso]>c<![endif]-->d', NULL]) AS input;

SELECT input, sophia.slack_text(input, '{"U1": "Ann", "U9": 5, "C2": "sales"}') AS text
FROM unnest(ARRAY['Hi <@U1>, <@U2|bob> and <@U3>', 'in <#C1|general>, <#C2> or <#C3>', '<!here> <!channel> <!everyone>',
  '<!subteam^S1|@eng> <!subteam^S2>', '<https://x.example?a=1&amp;b=2|the site> <https://x.example?a=1&amp;b=2>',
  '<mailto:a@b.example|a@b.example> <mailto:a@b.example> <tel:+123>', '&lt;@U1&gt; &amp;lt; &quot;',
  '<!date^1392734382^{date}|Feb 18> <!date^1392734382^{date}>', 'a <b> c', 'open <@U1', '<>', '<|>', '<@>', '<@U9>', '*bold* _it_ ~no~ `code` :tada: > quote', '<@U1|old> <#C3|> <!subteam^S1>', '<https://a.example|>', '', NULL]) AS input;
SELECT sophia.slack_text('<@U1>'), sophia.slack_text('<@U1>', '[1]'), sophia.slack_text('<@U1>', 'null'),
  sophia.slack_text(NULL), sophia.slack_text(NULL, '{}');

SELECT sophia.snippet(E'  two\n lines '), length(sophia.snippet(repeat('日', 1000))), sophia.snippet(' '), sophia.snippet(NULL);

-- Random text of the characters that matter never raises an error, and never grows where it must not.
SELECT setseed(0.42);
CREATE TEMP TABLE noise AS
SELECT n, (SELECT string_agg(substr(E'<>&;#@|!^"''=/ \n\tax09+-.:,()äß\u0301\u200B日😀%xUC', 1 + (random() * 43)::int, 1), '')
  FROM generate_series(1, (random() * 60)::int + n * 0)) AS input
FROM generate_series(1, 20000) AS n;
SELECT count(*) = 20000 AS done, count(sophia.normalize_email(input)) < 20000 AS email, count(sophia.email_domain(input)) < 20000 AS domain,
  count(sophia.normalize_phone(input)) + count(sophia.normalize_phone(input, 'DE')) >= 0 AS phone,
  count(sophia.normalize_name(input)) > 0 AS name,
  coalesce(bool_and(octet_length(sophia.strip_html(input)) <= octet_length(input)), true) AS html,
  count(sophia.slack_text(input, '{"U": "x", "C": "y"}')) > 0 AS slack
FROM noise;
-- What is normal stays as it is.
SELECT bool_and(sophia.normalize_email(e) = e) IS NOT FALSE AS email, bool_and(sophia.normalize_phone(p) = p) IS NOT FALSE AS phone,
  bool_and(sophia.normalize_name(a) = a) IS NOT FALSE AS name
FROM noise, LATERAL (SELECT sophia.normalize_email(input), sophia.normalize_phone(input, 'DE'), sophia.normalize_name(input))
  AS f (e, p, a);
SELECT proname, provolatile, proparallel, proisstrict FROM pg_proc
WHERE pronamespace = 'sophia'::regnamespace
  AND proname IN ('email_domain', 'normalize_email', 'normalize_phone', 'normalize_name', 'strip_html', 'slack_text', 'snippet')
ORDER BY proname;
