// Shows the OpenAPI document with Swagger UI. Every address is relative to the address of this file, because a reverse
// proxy may serve the API below a path prefix that the API does not know.

const root = new URL("..", import.meta.url);

const response = await fetch(new URL("openapi.json", root));
const spec = await response.json();

SwaggerUIBundle({
  spec: { servers: [{ url: root.href.replace(/\/$/, "") }], ...spec },
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null, // would send the document to another host
});
