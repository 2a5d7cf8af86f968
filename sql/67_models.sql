-- AI providers and models: tables, and the functions that write them.
--
-- A provider is a service at an address, with the name of its secret; a model is a profile on it.  Calls name models only, so no
-- address, header or secret is ever an argument of a call.  A change counts for calls that begin after its commit.

CREATE TABLE sophia.providers (
  provider text PRIMARY KEY,
  kind text NOT NULL CHECK (kind IN ('openai', 'snowflake')),
  address text NOT NULL,
  secret text,
  options jsonb NOT NULL DEFAULT '{}',
  changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE sophia.providers IS 'AI services: where they are, and the names of their secrets';
COMMENT ON COLUMN sophia.providers.kind IS 'openai: the dialect of OpenAI''s API, which vLLM, llama.cpp, TEI and Ollama speak; snowflake: a Snowflake account';
COMMENT ON COLUMN sophia.providers.address IS 'http[s]://host[:port][/path]; without a path, /v1 is added';
COMMENT ON COLUMN sophia.providers.secret IS 'reference of the secret that is sent as bearer token (env:NAME or file:name), never the secret itself; NULL = none';
COMMENT ON COLUMN sophia.providers.options IS 'replicas, ca_file, limits of connections and requests, when its breaker opens, of kind snowflake how the secret is used: see the README';
COMMENT ON COLUMN sophia.providers.changed_at IS 'when the profile was last changed; the gateway goes by the newest';

CREATE TABLE sophia.models (
  model text PRIMARY KEY,
  provider text NOT NULL REFERENCES sophia.providers,
  remote_name text NOT NULL,
  options jsonb NOT NULL DEFAULT '{}',
  token_count text NOT NULL DEFAULT 'not tried' CHECK (token_count IN ('counted', 'estimated', 'not tried'))
);
COMMENT ON TABLE sophia.models IS 'models that calls may name, each a profile on a provider';
COMMENT ON COLUMN sophia.models.remote_name IS 'what the provider calls it';
COMMENT ON COLUMN sophia.models.options IS 'defaults (options of calls), price ({in, out} a million tokens), limits ({items, bytes} of one request for embeddings, {context} tokens of a request), dimensions, fallback (models), cache_ttl (seconds that answers are kept)';
COMMENT ON COLUMN sophia.models.token_count IS 'what count_tokens goes by, as check_provider found: the provider''s own tokenizer, or an estimate of 4 bytes a token';
CREATE INDEX ON sophia.models (provider);

CREATE TABLE sophia.default_models (
  function text PRIMARY KEY,
  model text NOT NULL REFERENCES sophia.models
);
COMMENT ON TABLE sophia.default_models IS 'the model that a function takes where its call names none';
COMMENT ON COLUMN sophia.default_models.function IS 'an AI function; those without a row take the model of complete, or of embed_text where they compare';
CREATE INDEX ON sophia.default_models (model);

SELECT pg_catalog.pg_extension_config_dump('sophia.providers', '');
SELECT pg_catalog.pg_extension_config_dump('sophia.models', '');
SELECT pg_catalog.pg_extension_config_dump('sophia.default_models', '');

-- ---- checks ----

CREATE FUNCTION sophia.check_provider_address(address text) RETURNS void
  AS 'MODULE_PATHNAME', 'sophia_check_provider_address' LANGUAGE C VOLATILE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION sophia.check_provider_address(text) IS 'internal: raises an error where a provider cannot have that address';

CREATE FUNCTION sophia.check_call_options(options jsonb) RETURNS void
  AS 'MODULE_PATHNAME', 'sophia_check_model_options' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION sophia.check_call_options(jsonb) IS 'internal: raises an error where these cannot be the options of a call';

CREATE FUNCTION sophia.check_number_option(what text, options jsonb, name text, low numeric, high numeric, whole boolean) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF NOT options ? name THEN
    RETURN;
  ELSIF jsonb_typeof(options -> name) = 'number' THEN
    IF (options ->> name)::numeric BETWEEN low AND high AND (NOT whole OR (options ->> name)::numeric % 1 = 0) THEN
      RETURN;
    END IF;
  END IF;
  RAISE EXCEPTION 'invalid value of % option "%"', what, name USING ERRCODE = '22023',
    HINT = format('It can be a %snumber from %s to %s.', CASE WHEN whole THEN 'whole ' ELSE '' END, low, high);
END;
$$;
COMMENT ON FUNCTION sophia.check_number_option(text, jsonb, text, numeric, numeric, boolean) IS 'internal: raises an error where an option is there and no number within these bounds';

CREATE FUNCTION sophia.check_options_known(what text, options jsonb, known text[]) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  name text;
BEGIN
  IF jsonb_typeof(options) <> 'object' THEN
    RAISE EXCEPTION '% options must be a JSON object', what USING ERRCODE = '22023';
  END IF;
  FOR name IN SELECT k FROM jsonb_object_keys(options) AS k WHERE k <> ALL (known) LOOP
    RAISE EXCEPTION 'unknown % option "%"', what, name USING ERRCODE = '22023',
      HINT = format('The options are %s.', (SELECT string_agg(format('"%s"', k), ', ') FROM unnest(known) AS k));
  END LOOP;
END;
$$;
COMMENT ON FUNCTION sophia.check_options_known(text, jsonb, text[]) IS 'internal: raises an error where that is no object, or has a member that is not known';

CREATE FUNCTION sophia.check_texts_option(what text, options jsonb, name text, most integer) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF NOT options ? name THEN
    RETURN;
  ELSIF jsonb_typeof(options -> name) = 'array' THEN
    IF jsonb_array_length(options -> name) BETWEEN 1 AND most
       AND NOT EXISTS (SELECT FROM jsonb_array_elements(options -> name) AS e WHERE jsonb_typeof(e) <> 'string') THEN
      RETURN;
    END IF;
  END IF;
  RAISE EXCEPTION 'invalid value of % option "%"', what, name USING ERRCODE = '22023',
    HINT = format('It can be an array of 1 to %s texts.', most);
END;
$$;
COMMENT ON FUNCTION sophia.check_texts_option(text, jsonb, text, integer) IS 'internal: raises an error where an option is there and no array of so many texts';

CREATE FUNCTION sophia.provider_auth(kind text, address text, options jsonb) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE WHEN kind = 'openai' THEN ''
              WHEN options ->> 'auth' = 'oauth' THEN 'OAUTH'
              WHEN options ->> 'auth' = 'token' THEN 'PROGRAMMATIC_ACCESS_TOKEN'
              ELSE format('KEYPAIR_JWT %s %s', coalesce(options ->> 'account', substring(address FROM '://([^/:]+)')), options ->> 'user') END
$$;
COMMENT ON FUNCTION sophia.provider_auth(text, text, jsonb) IS 'internal: how the secret of a provider is used: as it is, or Snowflake''s word for its type, with account and user where a key signs tokens';

CREATE FUNCTION sophia.statement_session(options jsonb) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT jsonb_strip_nulls(jsonb_build_object('database', options -> 'database', 'role', options -> 'role', 'schema', options -> 'schema',
    'warehouse', options -> 'warehouse'))::text
$$;
COMMENT ON FUNCTION sophia.statement_session(jsonb) IS 'internal: what statements for a Snowflake account run with';

CREATE FUNCTION sophia.check_snowflake_options(options jsonb, secret text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  name text;
BEGIN
  IF coalesce(options ->> 'auth', 'key_pair') <> ALL ('{key_pair,oauth,token}') THEN
    RAISE EXCEPTION 'invalid value of provider option "auth"' USING ERRCODE = '22023',
      HINT = 'It can be "key_pair", "oauth" or "token".';
  ELSIF secret IS NULL THEN
    RAISE EXCEPTION 'a provider of kind "snowflake" needs a secret' USING ERRCODE = '22023';
  ELSIF coalesce(options ->> 'auth', 'key_pair') = 'key_pair' AND coalesce(options ->> 'user', '') = '' THEN
    RAISE EXCEPTION 'provider option "user" is missing' USING ERRCODE = '22023',
      HINT = 'A key pair signs tokens for a user; with "auth" of "token" or "oauth" none is named.';
  ELSIF options ->> 'account' !~ '^[A-Za-z0-9_.-]+$' THEN
    RAISE EXCEPTION 'invalid value of provider option "account"' USING ERRCODE = '22023',
      HINT = 'It can be letters, digits, underscores, hyphens and dots.';
  END IF;
  FOREACH name IN ARRAY '{database,role,schema,warehouse}'::text[] LOOP
    IF options ? name AND (jsonb_typeof(options -> name) <> 'string' OR options ->> name = '') THEN
      RAISE EXCEPTION 'invalid value of provider option "%"', name USING ERRCODE = '22023', HINT = 'It can be a name, in upper case as the account has it.';
    END IF;
  END LOOP;
END;
$$;
COMMENT ON FUNCTION sophia.check_snowflake_options(jsonb, text) IS 'internal: raises an error where a Snowflake account cannot be asked with these options';

CREATE FUNCTION sophia.check_provider_options(kind text, address text, options jsonb, secret text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  replica text;
BEGIN
  PERFORM sophia.check_options_known('provider', options, '{attempts,breaker_failures,breaker_seconds,ca_file,idle_expiry,in_flight,max_connections,min_connections,queue_bytes,replicas,timeout}'::text[]
    || CASE WHEN kind = 'snowflake' THEN '{account,auth,database,role,schema,user,warehouse}'::text[] END);
  IF kind = 'snowflake' THEN
    PERFORM sophia.check_snowflake_options(options, secret);
  END IF;
  PERFORM sophia.check_number_option('provider', options, 'attempts', 1, 20, true);
  PERFORM sophia.check_number_option('provider', options, 'breaker_failures', 0, 1000, true);
  PERFORM sophia.check_number_option('provider', options, 'breaker_seconds', 0.001, 3600, false);
  PERFORM sophia.check_number_option('provider', options, 'idle_expiry', 1, 86400, false);
  PERFORM sophia.check_number_option('provider', options, 'in_flight', 1, 1000, true);
  PERFORM sophia.check_number_option('provider', options, 'max_connections', 1, 200, true);
  PERFORM sophia.check_number_option('provider', options, 'min_connections', 0, 200, true);
  PERFORM sophia.check_number_option('provider', options, 'queue_bytes', 65536, 1073741824, true);
  PERFORM sophia.check_number_option('provider', options, 'timeout', 0.001, 86400, false);
  IF options ? 'ca_file' AND (jsonb_typeof(options -> 'ca_file') <> 'string' OR options ->> 'ca_file' !~ '^/.') THEN
    RAISE EXCEPTION 'invalid value of provider option "ca_file"' USING ERRCODE = '22023', HINT = 'It can be the absolute path of a file of the server.';
  END IF;
  PERFORM sophia.check_texts_option('provider', options, 'replicas', 31);
  FOR replica IN SELECT r FROM jsonb_array_elements_text(options -> 'replicas') AS r LOOP
    PERFORM sophia.check_provider_address(replica);
    IF substring(rtrim(replica, '/') FROM '^[^:]*://[^/]*(.*)') <> substring(rtrim(address, '/') FROM '^[^:]*://[^/]*(.*)') THEN
      RAISE EXCEPTION 'replica "%" has another path than the address', replica USING ERRCODE = '22023',
        HINT = 'What follows host and port must be the same.';
    END IF;
  END LOOP;
END;
$$;
COMMENT ON FUNCTION sophia.check_provider_options(text, text, jsonb, text) IS 'internal: raises an error where these cannot be the options of a provider at that address';

CREATE FUNCTION sophia.check_model_options(options jsonb) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM sophia.check_options_known('model', options, '{cache_ttl,defaults,dimensions,fallback,limits,price}');
  IF options ? 'defaults' THEN
    PERFORM sophia.check_call_options(options -> 'defaults');
  END IF;
  PERFORM sophia.check_number_option('model', options, 'dimensions', 1, 16000, true);
  PERFORM sophia.check_number_option('model', options, 'cache_ttl', 0, 31536000, true);
  PERFORM sophia.check_texts_option('model', options, 'fallback', 10);
  IF options ?& '{dimensions,fallback}' THEN
    RAISE EXCEPTION 'a model for embeddings has no fallback' USING ERRCODE = '22023',
      HINT = 'Vectors of different models cannot be compared.';
  END IF;
  IF options ? 'limits' THEN
    PERFORM sophia.check_options_known('limits', options -> 'limits', '{bytes,context,items}');
    PERFORM sophia.check_number_option('limits', options -> 'limits', 'context', 16, 100000000, true);
    PERFORM sophia.check_number_option('limits', options -> 'limits', 'items', 1, 10000, true);
    PERFORM sophia.check_number_option('limits', options -> 'limits', 'bytes', 1, 8388608, true);
  END IF;
  IF options ? 'price' THEN
    PERFORM sophia.check_options_known('price', options -> 'price', '{in,out}');
    IF NOT options -> 'price' ?& '{in,out}' THEN
      RAISE EXCEPTION 'a price needs both "in" and "out"' USING ERRCODE = '22023';
    END IF;
    PERFORM sophia.check_number_option('price', options -> 'price', 'in', 0, 1000000, false);
    PERFORM sophia.check_number_option('price', options -> 'price', 'out', 0, 1000000, false);
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.check_model_options(jsonb) IS 'internal: raises an error where these cannot be the options of a model';

CREATE FUNCTION sophia.check_provider_kind(kind text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF kind IS NULL THEN
    RAISE EXCEPTION 'kind must not be null' USING ERRCODE = '22004';
  ELSIF kind <> ALL ('{openai,snowflake}') THEN
    RAISE EXCEPTION 'unknown kind of provider "%"', kind USING ERRCODE = '22023', HINT = 'The kinds are "openai" and "snowflake".';
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.check_provider_kind(text) IS 'internal: raises an error where there is no such kind of provider';

-- ---- providers ----

CREATE FUNCTION sophia.create_provider(provider text, kind text, address text, secret text DEFAULT NULL, options jsonb DEFAULT '{}') RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  PERFORM sophia.check_name('provider', create_provider.provider);
  PERFORM sophia.check_provider_kind(create_provider.kind);
  IF create_provider.address IS NULL THEN
    RAISE EXCEPTION 'address must not be null' USING ERRCODE = '22004';
  END IF;
  PERFORM sophia.check_secret(create_provider.secret, 'secret');
  PERFORM sophia.check_provider_address(create_provider.address);
  PERFORM sophia.check_provider_options(create_provider.kind, create_provider.address, coalesce(create_provider.options, '{}'), create_provider.secret);
  INSERT INTO sophia.providers (provider, kind, address, secret, options)
    VALUES (create_provider.provider, create_provider.kind, rtrim(create_provider.address, '/'), create_provider.secret,
            coalesce(create_provider.options, '{}'))
    ON CONFLICT (provider) DO NOTHING;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'provider "%" exists already', create_provider.provider USING ERRCODE = '42710';
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.create_provider(text, text, text, text, jsonb) IS 'names an AI service; kind is openai or snowflake, secret a reference (env:NAME or file:name)';

CREATE FUNCTION sophia.alter_provider(provider text, address text DEFAULT NULL, secret text DEFAULT NULL, options jsonb DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  changed sophia.providers;
BEGIN
  PERFORM sophia.check_name('provider', alter_provider.provider);
  PERFORM sophia.check_secret(nullif(alter_provider.secret, ''), 'secret');
  PERFORM sophia.check_provider_address(alter_provider.address);
  PERFORM sophia.check_changes(coalesce(alter_provider.options, '{}'));
  UPDATE sophia.providers AS p
    SET address = coalesce(rtrim(alter_provider.address, '/'), p.address),
        secret = CASE WHEN alter_provider.secret IS NULL THEN p.secret ELSE nullif(alter_provider.secret, '') END,
        options = sophia.change_options(p.options, coalesce(alter_provider.options, '{}')), changed_at = clock_timestamp()
    WHERE p.provider = alter_provider.provider
    RETURNING p.* INTO changed;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'provider "%" does not exist', alter_provider.provider USING ERRCODE = '42704';
  END IF;
  PERFORM sophia.check_provider_options(changed.kind, changed.address, changed.options, changed.secret);
  UPDATE sophia.models AS m SET token_count = 'not tried'
    WHERE m.provider = alter_provider.provider AND alter_provider.address IS NOT NULL AND m.token_count <> 'not tried';
END;
$$;
COMMENT ON FUNCTION sophia.alter_provider(text, text, text, jsonb) IS 'changes what is given; secret '''' takes the secret away, an option of null its value';

CREATE FUNCTION sophia.drop_provider(provider text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM sophia.check_name('provider', provider);
  DELETE FROM sophia.providers AS p WHERE p.provider = drop_provider.provider;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'provider "%" does not exist', provider USING ERRCODE = '42704';
  END IF;
EXCEPTION WHEN foreign_key_violation THEN
  RAISE EXCEPTION 'provider "%" is in use', provider USING ERRCODE = '2BP01',
    DETAIL = format('It has %s.', (SELECT string_agg(format('model "%s"', m.model), ', ' ORDER BY m.model)
                                   FROM sophia.models AS m WHERE m.provider = drop_provider.provider)),
    HINT = 'Drop its models first.';
END;
$$;
COMMENT ON FUNCTION sophia.drop_provider(text) IS 'forgets a provider that has no models';

CREATE FUNCTION sophia.try_provider(provider text, timeout float8, OUT ok boolean, OUT message text)
  AS 'MODULE_PATHNAME', 'sophia_try_provider' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION sophia.try_provider(text, float8) IS 'internal: asks a provider for its models, at most that many seconds';

CREATE FUNCTION sophia.try_tokenizer(model text) RETURNS boolean
  AS 'MODULE_PATHNAME', 'sophia_try_tokenizer' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION sophia.try_tokenizer(text) IS 'internal: whether the provider of a model counts tokens; NULL where that is not known';

CREATE FUNCTION sophia.check_provider(provider text, timeout interval DEFAULT '30 s') RETURNS TABLE (ok boolean, message text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  PERFORM sophia.check_name('provider', provider);
  SELECT t.ok, t.message INTO ok, message FROM sophia.try_provider(provider, sophia.check_timeout(timeout)) AS t;
  RETURN NEXT;
  -- what this transaction has written cannot be asked yet
  IF ok THEN
    WITH tried AS MATERIALIZED (
      SELECT m.model, CASE sophia.try_tokenizer(m.model) WHEN true THEN 'counted' WHEN false THEN 'estimated' ELSE m.token_count END AS found
      FROM sophia.models AS m WHERE m.provider = check_provider.provider AND NOT sophia.written_here(m.xmin))
    UPDATE sophia.models AS m SET token_count = t.found FROM tried AS t WHERE m.model = t.model AND m.token_count <> t.found;
  END IF;
END;
$$;
COMMENT ON FUNCTION sophia.check_provider(text, interval) IS 'has the gateway try a provider, and tells what it found: its models, or what is wrong; notes in models who counts tokens';

-- ---- models ----

CREATE FUNCTION sophia.check_fallback(model text, options jsonb) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  name text;
BEGIN
  FOR name IN SELECT f FROM jsonb_array_elements_text(options -> 'fallback') AS f LOOP
    IF name = check_fallback.model THEN
      RAISE EXCEPTION 'model "%" cannot be its own fallback', name USING ERRCODE = '22023';
    ELSIF NOT EXISTS (SELECT FROM sophia.models AS m WHERE m.model = name) THEN
      RAISE EXCEPTION 'model "%" does not exist', name USING ERRCODE = '42704';
    END IF;
  END LOOP;
END;
$$;
COMMENT ON FUNCTION sophia.check_fallback(text, jsonb) IS 'internal: raises an error where a fallback of that model is no other model';

CREATE FUNCTION sophia.create_model(model text, provider text, remote_name text DEFAULT NULL, options jsonb DEFAULT '{}') RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  PERFORM sophia.check_name('model', create_model.model);
  PERFORM sophia.check_name('provider', create_model.provider);
  PERFORM sophia.check_name('model at the provider', coalesce(create_model.remote_name, create_model.model));
  PERFORM sophia.check_model_options(coalesce(create_model.options, '{}'));
  PERFORM sophia.check_fallback(create_model.model, create_model.options);
  INSERT INTO sophia.models (model, provider, remote_name, options)
    VALUES (create_model.model, create_model.provider, coalesce(create_model.remote_name, create_model.model),
            coalesce(create_model.options, '{}'))
    ON CONFLICT (model) DO NOTHING;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'model "%" exists already', create_model.model USING ERRCODE = '42710';
  END IF;
EXCEPTION WHEN foreign_key_violation THEN
  RAISE EXCEPTION 'provider "%" does not exist', create_model.provider USING ERRCODE = '42704';
END;
$$;
COMMENT ON FUNCTION sophia.create_model(text, text, text, jsonb) IS 'names a model of a provider; remote_name is what the provider calls it, where that is another name';

CREATE FUNCTION sophia.alter_model(model text, provider text DEFAULT NULL, remote_name text DEFAULT NULL, options jsonb DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  changed jsonb;
BEGIN
  PERFORM sophia.check_name('model', alter_model.model);
  PERFORM sophia.check_name('model at the provider', coalesce(alter_model.remote_name, 'kept'));
  PERFORM sophia.check_changes(coalesce(alter_model.options, '{}'));
  UPDATE sophia.models AS m
    SET provider = coalesce(alter_model.provider, m.provider), remote_name = coalesce(alter_model.remote_name, m.remote_name),
        options = sophia.change_options(m.options, coalesce(alter_model.options, '{}')),
        token_count = CASE WHEN alter_model.provider IS NULL AND alter_model.remote_name IS NULL THEN m.token_count ELSE 'not tried' END
    WHERE m.model = alter_model.model
    RETURNING m.options INTO changed;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'model "%" does not exist', alter_model.model USING ERRCODE = '42704';
  END IF;
  PERFORM sophia.check_model_options(changed);
  PERFORM sophia.check_fallback(alter_model.model, changed);
EXCEPTION WHEN foreign_key_violation THEN
  RAISE EXCEPTION 'provider "%" does not exist', alter_model.provider USING ERRCODE = '42704';
END;
$$;
COMMENT ON FUNCTION sophia.alter_model(text, text, text, jsonb) IS 'changes what is given; an option of null takes its value away';

CREATE FUNCTION sophia.drop_model(model text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM sophia.check_name('model', model);
  IF EXISTS (SELECT FROM sophia.models AS m WHERE m.options -> 'fallback' ? drop_model.model) THEN
    RAISE EXCEPTION 'model "%" is in use', model USING ERRCODE = '2BP01',
      DETAIL = format('It is a fallback of %s.', (SELECT string_agg(format('model "%s"', m.model), ', ' ORDER BY m.model)
                                                  FROM sophia.models AS m WHERE m.options -> 'fallback' ? drop_model.model)),
      HINT = 'Change their option fallback first.';
  END IF;
  DELETE FROM sophia.models AS m WHERE m.model = drop_model.model;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'model "%" does not exist', model USING ERRCODE = '42704';
  END IF;
EXCEPTION WHEN foreign_key_violation THEN
  RAISE EXCEPTION 'model "%" is in use', model USING ERRCODE = '2BP01',
    DETAIL = format('It is the default of %s.', (SELECT string_agg(d.function, ', ' ORDER BY d.function)
                                                 FROM sophia.default_models AS d WHERE d.model = drop_model.model)),
    HINT = 'Set another default first, or NULL for none.';
END;
$$;
COMMENT ON FUNCTION sophia.drop_model(text) IS 'forgets a model that is no default';

CREATE FUNCTION sophia.set_default_model(function text, model text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  known CONSTANT text[] := '{ai_filter,classify_sentiment,classify_text,complete,complete_json,embed_text,extract_answer,sentiment,similarity,summarize,summarize_agg,translate}';
BEGIN
  IF set_default_model.function IS NULL THEN
    RAISE EXCEPTION 'function must not be null' USING ERRCODE = '22004';
  ELSIF set_default_model.function <> ALL (known) THEN
    RAISE EXCEPTION 'function "%" takes no default model', set_default_model.function USING ERRCODE = '22023',
      HINT = format('The functions are %s.', (SELECT string_agg(format('"%s"', f), ', ') FROM unnest(known) AS f));
  ELSIF set_default_model.model IS NULL THEN
    DELETE FROM sophia.default_models AS d WHERE d.function = set_default_model.function;
    RETURN;
  END IF;
  INSERT INTO sophia.default_models (function, model) VALUES (set_default_model.function, set_default_model.model)
    ON CONFLICT (function) DO UPDATE SET model = EXCLUDED.model;
EXCEPTION WHEN foreign_key_violation THEN
  RAISE EXCEPTION 'model "%" does not exist', set_default_model.model USING ERRCODE = '42704';
END;
$$;
COMMENT ON FUNCTION sophia.set_default_model(text, text) IS 'the model that a function takes where a call names none, instead of that of complete or embed_text; NULL = none';
